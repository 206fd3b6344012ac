"""Export, calibrate and verify a checkpoint, then write it as a bundle."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.budgets import estimate_share, solve_budgets
from exporter.errors import ExportError
from exporter.graph import (
    StageGraph,
    cut_by_need,
    export_stages,
    parameter_count,
)
from exporter.place import check_place
from exporter.report import write_plot
from exporter.stage_modules import split
from exporter.temperatures import fit_temperatures, set_temperatures, some_of
from exporter.verify import Chain, ChainOutput, verify_blocks, verify_chain
from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import (
    MANIFEST,
    NEW_FORMAT,
    HeldOut,
    Manifest,
    PretrainedWeights,
    PretrainingImages,
    Provenance,
    StageSpec,
    read_manifest,
)
from offramp.bundle.stage_files import read_graph
from offramp.bundle.values import FrozenRecord, Name, SolvedFor, Version
from offramp.writing import writing
from training.data.images import Images, image_input
from training.evaluation.evaluate import Scored
from training.fit.checkpoint import Checkpoint
from training.networks.confidence import CONFIDENCES
from training.networks.predict import predict
from training.recipes import Recipe

VERIFIED_IMAGES = 1000
PLOT = "budgets.svg"


class Naming(FrozenRecord):
    """Name and version of a bundle, and the public name of its images."""

    name: Name
    version: Version
    dataset: str


@dataclass(frozen=True, slots=True)
class Export:
    """A chain of graphs with everything measured on it.

    Attributes:
        graphs: One graph for each stage.
        blockwise: Flops to each exit if stages are whole blocks of the network.
        temperatures: Softmax temperature of each exit.
        scored: Predictions of every exit on the held-out images.
        classes: Likeliest class of every exit on them, int64 [exits, N].
    """

    graphs: list[StageGraph]
    blockwise: list[int]
    temperatures: list[float]
    scored: Scored
    classes: NDArray[np.int64]

    @property
    def agrees(self) -> NDArray[np.bool_]:
        """Return whether the class of every exit is that of full depth, bool [exits, N]."""
        agrees: NDArray[np.bool_] = self.classes == self.classes[-1]
        return agrees


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
    if confidence not in CONFIDENCES:
        raise ExportError(f"confidence: {confidence!r} is not one of {', '.join(CONFIDENCES)}")
    network = checkpoint.network()
    pseudo = not held_out.labelled
    if pseudo:
        held_out = Images(held_out.pixels, predict(network, held_out.pixels)[-1].argmax(dim=1))
    modules = split(network, CONFIDENCES[confidence])
    log(f"exporting {len(modules)} stages")
    blocks = export_stages(modules, checkpoint.progress.recipe.size)
    fitted_on = some_of(held_out, rows)
    log(f"fitting temperatures on {len(fitted_on):,} held-out images")
    temperatures = fit_temperatures(blocks, fitted_on)
    if pseudo:  # an exit that agrees with itself has no temperature that fits
        temperatures[-1] = 1.0
    set_temperatures(modules, blocks, temperatures)
    pixels = held_out.pixels[:VERIFIED_IMAGES]
    log(f"verifying against torch on {len(pixels):,} of them")
    verify_blocks(modules, blocks, pixels)
    graphs = cut_by_need(blocks)
    difference = verify_chain(network, temperatures, graphs, pixels)
    log(f"largest difference of a probability along the chain: {difference:.1e}")
    output = Chain(graphs).run(held_out.pixels)
    blockwise = list(accumulate(block.flops for block in blocks))
    scored = score(output, held_out, graphs)
    return Export(graphs, blockwise, temperatures, scored, output.classes)


def score(output: ChainOutput, images: Images, graphs: Sequence[StageGraph]) -> Scored:
    """Compare the predictions of every exit with the labels."""
    right = output.classes == images.targets.numpy()
    flops = np.cumsum([graph.flops for graph in graphs]).astype(np.float64)
    heads = np.array([graph.head_flops for graph in graphs], dtype=np.float64)
    return Scored(output.confidence, right, flops, heads)


def make_manifest(
    checkpoint: Checkpoint,
    export: Export,
    naming: Naming,
    confidence: str,
    solved_for: SolvedFor = "agreement",
) -> Manifest:
    """Solve the budgets of an export and return its manifest."""
    progress, scored = checkpoint.progress, export.scored
    budgets, curve = solve_budgets(scored, export.agrees, solved_for)
    recipe = progress.recipe.model_dump(mode="json", exclude={"data"})
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
        held_out=_held_out(progress.recipe, scored.images, naming.dataset),
        provenance=Provenance(
            recipe=progress.recipe_name,
            dataset=naming.dataset,
            train_images=progress.train_images,
            epochs=len(progress.epochs),
            seed=progress.recipe.seed,
            commit=progress.commit,
            config=recipe,
            weights=pretrained(progress.recipe),
        ),
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


def stage_specs(export: Export) -> tuple[StageSpec, ...]:
    """Return the manifest's entry for each stage."""
    scored, to_exit, specs = export.scored, 0, []
    for k, graph in enumerate(export.graphs):
        to_exit += graph.flops
        specs.append(
            StageSpec(
                file=f"stage_{k + 1}.onnx",
                sha256=hashlib.sha256(graph.serialized()).hexdigest(),
                inputs=graph.inputs,
                features=graph.features,
                flops=graph.flops,
                head_flops=graph.head_flops,
                flops_to_exit=to_exit,
                blockwise_flops_to_exit=export.blockwise[k],
                parameters=parameter_count(graph.model),
                temperature=export.temperatures[k],
                accuracy=estimate_share(float(scored.right[k].mean()), scored.images),
            )
        )
    return tuple(specs)


def with_new_measurements(manifest: Manifest, export: Export, **changes: object) -> Manifest:
    """Solve the budgets of an export and return the manifest with its measurements replaced.

    They are solved for the same as those of the manifest, by default agreement. There are no
    promises: those of the manifest were certified on other graphs or images.
    """
    solved_for = manifest.solved_for or "agreement"
    budgets, curve = solve_budgets(export.scored, export.agrees, solved_for)
    measured = {
        "created": datetime.now(UTC).replace(microsecond=0),
        "stages": stage_specs(export),
        "budgets": budgets,
        "curve": curve,
        "solved_for": solved_for,
    }
    return manifest.model_copy(update=measured | changes).with_promises(None)


def read_bundle(folder: Path, *, promises: bool = True) -> tuple[Manifest, list[StageGraph]]:
    """Read a bundle's manifest and graphs. Without `promises`, its promises are left out.

    Raises:
        ExportError: The bundle is damaged or has another format version.
    """
    try:
        manifest = read_manifest(folder, promises=promises)
        models = [read_graph(folder, stage) for stage in manifest.stages]
    except BundleError as error:
        raise ExportError(f"--bundle: {error}") from error
    return manifest, [StageGraph(onnx.load_model_from_string(model)) for model in models]


def write_bundle(folder: Path, manifest: Manifest, export: Export) -> None:
    """Write a bundle to a temporary folder, read it back, then rename the folder.

    An incomplete bundle is never visible at `folder`. After an error nothing is left.

    Raises:
        ExportError: `folder` exists already.
        UnwritableFileError: The bundle cannot be written.
    """
    check_place(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(folder):
            partial.mkdir(parents=True)
            _write_files(partial, manifest, export)
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _write_files(folder: Path, manifest: Manifest, export: Export) -> None:
    for spec, graph in zip(manifest.stages, export.graphs, strict=True):
        (folder / spec.file).write_bytes(graph.serialized())
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_plot(folder / PLOT, manifest, export.scored)
    for spec in read_manifest(folder).stages:
        read_graph(folder, spec)
