"""Export, calibrate and verify a checkpoint, and describe it in a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from exporter.budgets import solve_budgets
from exporter.bundle import VERIFIED_IMAGES, Export, Naming, measured, stage_specs
from exporter.errors import ExportError
from exporter.network.stage_graphs import export_stages
from exporter.network.stage_modules import StageModule, split
from exporter.network.verify import verify_blocks, verify_chain
from exporter.stages.graph import StageGraph, cut_by_need, set_temperature
from exporter.stages.runner import Chain
from exporter.stages.temperatures import fit_temperatures, some_of
from offramp.bundle.manifest import (
    NEW_FORMAT,
    HeldOut,
    Manifest,
    PretrainedWeights,
    PretrainingImages,
    Provenance,
)
from offramp.bundle.values import Price, SolvedFor
from training.data.images import Images, image_input
from training.fit.checkpoint import Checkpoint, Progress
from training.networks.confidence import CONFIDENCES
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import predict
from training.recipes import Recipe


def export_network(
    checkpoint: Checkpoint,
    held_out: Images,
    confidence: str,
    log: Callable[[str], None],
    rows: NDArray[np.int64] | None = None,
) -> Export:
    """Export a checkpoint, fit temperatures and verify, measuring the graphs that ship.

    Args:
        checkpoint: The trained network.
        held_out: Images that it was not trained on. Without labels, the predictions of the last
            exit are their labels, and its temperature is 1.
        confidence: A name in `training.networks.confidence.CONFIDENCES`.
        log: Callback for progress messages.
        rows: Those of the images to fit temperatures on. `None`: all.

    Raises:
        ExportError: No confidence has this name.
        VerificationError: The outputs of a graph differ from the network's.
    """
    network = checkpoint.network()
    images = held_out if held_out.labelled else _labelled_by_last_exit(held_out, network)
    modules = _split(network, confidence)
    log(f"exporting {len(modules)} stages")
    blocks = export_stages(modules, checkpoint.progress.recipe.size)
    fitted_on = some_of(images, rows)
    log(f"fitting temperatures on {len(fitted_on):,} held-out images")
    temperatures = fit_temperatures(blocks, fitted_on)
    if not held_out.labelled:  # an exit that agrees with itself has no temperature that fits
        temperatures[-1] = 1.0
    set_temperatures(modules, blocks, temperatures)
    pixels = images.pixels[:VERIFIED_IMAGES]
    log(f"verifying against torch on {len(pixels):,} of them")
    verify_blocks(modules, blocks, pixels)
    graphs = _verified_cut(network, temperatures, blocks, pixels, log)
    blockwise = list(accumulate(block.flops for block in blocks))
    return measured(graphs, blockwise, temperatures, Chain(graphs).run(images.pixels), images)


def _split(network: MultiExitNetwork, confidence: str) -> list[StageModule]:
    if confidence not in CONFIDENCES:
        raise ExportError(f"confidence: {confidence!r} is not one of {', '.join(CONFIDENCES)}")
    return split(network, CONFIDENCES[confidence])


def _verified_cut(
    network: MultiExitNetwork,
    temperatures: list[float],
    blocks: Sequence[StageGraph],
    pixels: Tensor,
    log: Callable[[str], None],
) -> list[StageGraph]:
    """Cut the stages by need, and compare the chain with the network on images."""
    graphs = cut_by_need(blocks)
    difference = verify_chain(network, temperatures, graphs, pixels)
    log(f"largest difference of a probability along the chain: {difference:.1e}")
    return graphs


def _labelled_by_last_exit(images: Images, network: MultiExitNetwork) -> Images:
    return Images(images.pixels, predict(network, images.pixels)[-1].argmax(dim=1))


def make_manifest(
    checkpoint: Checkpoint,
    export: Export,
    naming: Naming,
    confidence: str,
    solved_for: SolvedFor = "agreement",
    price: Price = "flops",
) -> Manifest:
    """Solve the budgets of an export and return its manifest."""
    progress, scored = checkpoint.progress, export.priced(price)
    budgets, curve = solve_budgets(scored, export.agrees, solved_for)
    return Manifest(
        format=NEW_FORMAT,
        name=naming.name,
        version=naming.version,
        created=datetime.now(UTC).replace(microsecond=0),
        labels=progress.labels,
        input=image_input(progress.recipe.size, progress.recipe.resizing),
        precision="fp32",
        confidence=confidence,
        stages=stage_specs(export),
        budgets=budgets,
        curve=curve,
        solved_for=solved_for,
        times=export.times,
        priced_in=price,
        held_out=_held_out(progress.recipe, scored.images, naming.dataset),
        provenance=_provenance(progress, naming.dataset),
    )


def _provenance(progress: Progress, dataset: str) -> Provenance:
    return Provenance(
        recipe=progress.recipe_name,
        dataset=dataset,
        train_images=progress.train_images,
        epochs=len(progress.epochs),
        seed=progress.recipe.seed,
        commit=progress.commit,
        config=progress.recipe.model_dump(mode="json", exclude={"data"}),
        weights=pretrained(progress.recipe),
    )


def _held_out(recipe: Recipe, images: int, dataset: str) -> HeldOut:
    source = f"{dataset}, not trained on"
    if not recipe.pseudo_labels:
        return HeldOut(images=images, source=source)
    return HeldOut(images=images, source=f"{source}, labelled by the last exit", labels="pseudo")


def pretrained(recipe: Recipe) -> PretrainedWeights | None:
    """Return the manifest's entry for the weights that training started from, if any."""
    weights = recipe.weights
    if weights is None or weights.sha256 is None:
        return None
    return PretrainedWeights(
        source=weights.source,
        licence=weights.licence,
        sha256=weights.sha256,
        images=PretrainingImages(
            size=weights.size,
            mean=weights.mean,
            std=weights.std,
            filter=weights.filter,
            margin=weights.margin,
        ),
    )


def set_temperatures(
    modules: Sequence[StageModule], graphs: Sequence[StageGraph], temperatures: Sequence[float]
) -> None:
    """Set the temperature of each exit, in the network and in its graphs."""
    for module, graph, temperature in zip(modules, graphs, temperatures, strict=True):
        module.temperature.fill_(temperature)
        set_temperature(graph.model, temperature)
