"""A chain of graphs with its measurements, written as a bundle, and read from one."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from exporter.budgets import estimate_share, solve_budgets
from exporter.errors import ExportError
from exporter.output_folder import check_place
from exporter.report import write_plot
from exporter.stages.graph import StageGraph, parameter_count
from exporter.stages.runner import ChainOutput, LabelledImages
from exporter.stages.times import measure_times, prices
from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import MANIFEST, Manifest, StageSpec, first_stages, read_manifest
from offramp.bundle.stage_files import read_graph
from offramp.bundle.values import FrozenRecord, MeasuredTimes, Name, Price, Version
from offramp.writing import new_folder
from training.evaluation.evaluate import Scored

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
        times: Compute times of the stages. `None`: not measured.
    """

    graphs: list[StageGraph]
    blockwise: list[int]
    temperatures: list[float]
    scored: Scored
    classes: NDArray[np.int64]
    times: MeasuredTimes | None = None

    def priced(self, price: Price) -> Scored:
        """Return the predictions with the cost of going on in flops or in milliseconds."""
        if price == "flops":
            return self.scored
        assert self.times is not None
        return replace(self.scored, prices=prices(self.times))

    @property
    def agrees(self) -> NDArray[np.bool_]:
        """Return whether the class of every exit is that of full depth, bool [exits, N]."""
        agrees: NDArray[np.bool_] = self.classes == self.classes[-1]
        return agrees


def score(output: ChainOutput, images: LabelledImages, graphs: Sequence[StageGraph]) -> Scored:
    """Compare the predictions of every exit with the labels."""
    right = output.classes == np.asarray(images.targets)
    flops = np.cumsum([graph.flops for graph in graphs]).astype(np.float64)
    heads = np.array([graph.head_flops for graph in graphs], dtype=np.float64)
    firsts = first_stages([graph.inputs for graph in graphs], [graph.features for graph in graphs])
    return Scored(output.confidence, right, flops, heads, firsts)


def measured(
    graphs: list[StageGraph],
    blockwise: list[int],
    temperatures: list[float],
    output: ChainOutput,
    images: LabelledImages,
) -> Export:
    """Return a chain of graphs with its output for images, and the compute times of its stages."""
    scored = score(output, images, graphs)
    return Export(graphs, blockwise, temperatures, scored, output.classes, measure_times(graphs))


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
    scored = export.priced(manifest.priced_in)
    budgets, curve = solve_budgets(scored, export.agrees, solved_for)
    measured = {
        "created": datetime.now(UTC).replace(microsecond=0),
        "stages": stage_specs(export),
        "budgets": budgets,
        "curve": curve,
        "solved_for": solved_for,
        "times": export.times,
    }
    return manifest.model_copy(update=measured | changes).with_promises(None)


def read_bundle(
    folder: Path, *, promises: bool = True, option: str = "--bundle"
) -> tuple[Manifest, list[StageGraph]]:
    """Read a bundle's manifest and graphs.

    Args:
        folder: Folder of the bundle.
        promises: Read its promises too.
        option: Option that names the folder, for errors.

    Raises:
        ExportError: The bundle is damaged or has another format version.
    """
    try:
        manifest = read_manifest(folder, promises=promises)
        models = [read_graph(folder, stage) for stage in manifest.stages]
    except BundleError as error:
        raise ExportError(f"{option}: {error}") from error
    return manifest, [StageGraph(onnx.load_model_from_string(model)) for model in models]


def write_bundle(folder: Path, manifest: Manifest, export: Export) -> None:
    """Write a bundle to a temporary folder, read it back, then rename the folder.

    An incomplete bundle is never visible at `folder`. After an error nothing is left.

    Raises:
        ExportError: `folder` exists already.
        UnwritableFileError: The bundle cannot be written, or another process writes it.
    """
    check_place(folder)
    with new_folder(folder) as partial:
        _write_files(partial, manifest, export)


def _write_files(folder: Path, manifest: Manifest, export: Export) -> None:
    for spec, graph in zip(manifest.stages, export.graphs, strict=True):
        (folder / spec.file).write_bytes(graph.serialized())
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_plot(folder / PLOT, manifest, export.scored)
    for spec in read_manifest(folder).stages:
        read_graph(folder, spec)
