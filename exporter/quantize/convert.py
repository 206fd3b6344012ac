"""Convert a bundle to fewer bits.

8-bit integers are for CPUs, 16-bit floats (`--precision fp16`) for GPUs. The graphs are joined,
converted and cut by need again. Every figure in the manifest is measured on the new graphs:
accuracies, exit shares, budgets. The images must be those that the bundle was made with. A check
refuses others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from rich.console import Console

from exporter.bundle import (
    Export,
    read_bundle,
    score,
    with_new_measurements,
    write_bundle,
)
from exporter.chain import Chain, ChainOutput
from exporter.errors import ExportError
from exporter.graph import StageGraph, stages_by_need
from exporter.promises.bundle import with_promises
from exporter.promises.certificate import Wanted
from exporter.quantize import Precision
from exporter.quantize.to_fp16 import convert_to_fp16
from exporter.quantize.to_int8 import convert_to_int8
from exporter.recalibrate import own_files
from exporter.reject.photos import read_photos
from exporter.reject.record import DROPPED, add_reject
from exporter.report import summary
from exporter.stage_times import measure_times
from offramp.bundle.graphs import join
from offramp.bundle.manifest import Manifest
from training.data.datasets import Dataset
from training.data.images import Images

CALIBRATION_IMAGES = 512
MOST_LOST = 0.01  # accuracy of an exit; more is reported
ROUNDING = 1e-3  # share of images that can change class by another processor's rounding


@dataclass(frozen=True, slots=True)
class Agreement:
    """Accuracy of an exit before and after, and the share of images with the same class."""

    before: float
    after: float
    same: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """The stages in fewer bits, and their outputs for the held-out images."""

    export: Export
    output: ChainOutput


def own_images(manifest: Manifest, source: str, *, strict: bool = False) -> Dataset[Images]:
    """Return calibration images of the training set, and the held-out images of the bundle.

    Raises:
        DataError: `source` has no such images.
    """
    dataset = own_files(manifest, source, strict=strict)
    subset = dataset.train.select(torch.arange(min(CALIBRATION_IMAGES, len(dataset.train))))
    return Dataset(subset.decoded(), dataset.held_out.decoded(), dataset.labels)


def quantize(
    manifest: Manifest,
    floats: Sequence[StageGraph],
    images: Dataset[Images],
    precision: Precision = "int8",
) -> Quantized:
    """Convert the stages of a bundle together and measure the result.

    Args:
        manifest: The manifest of the bundle.
        floats: The stages of the bundle, in float32.
        images: The result of `own_images`.
        precision: Number format to convert to.

    Raises:
        ExportError: Values are too large for 16-bit floats.
    """
    whole = join([graph.model for graph in floats])
    if precision == "fp16":
        whole = convert_to_fp16(whole)
    else:
        whole = convert_to_int8(whole, images.train.pixels.numpy())
    graphs = stages_by_need(onnx.shape_inference.infer_shapes(whole), len(floats))
    blockwise = [stage.blockwise_flops_to_exit for stage in manifest.stages]
    temperatures = [stage.temperature for stage in manifest.stages]
    output = Chain(graphs).run(images.held_out.pixels)
    if not np.isfinite(output.confidence).all():
        raise ExportError(f"--bundle: some of its values are too large for {precision}")
    scored = score(output, images.held_out, graphs)
    times = measure_times(graphs)
    export = Export(graphs, blockwise, temperatures, scored, output.classes, times)
    return Quantized(export, output)


def agreement(
    manifest: Manifest, floats: ChainOutput, converted: Quantized, held_out: Images
) -> list[Agreement]:
    """Compare each exit before and after the conversion.

    Raises:
        ExportError: The held-out images are not those of the manifest.
    """
    before, after = floats.classes, converted.output.classes
    accuracy = (before == held_out.targets.numpy()).mean(axis=1)
    expected = [stage.accuracy.value for stage in manifest.stages]
    for k, (measured, stated) in enumerate(zip(accuracy.tolist(), expected, strict=True), 1):
        if abs(measured - stated) > ROUNDING:
            raise ExportError(
                f"--data: exit {k} is right on {measured:.2%} of the held-out images, and the "
                f"manifest states {stated:.2%}: these are not the images that the bundle was made "
                "with"
            )
    same = (before == after).mean(axis=1)
    after_accuracy = converted.export.scored.right.mean(axis=1)
    columns = (accuracy.tolist(), after_accuracy.tolist(), same.tolist())
    return [Agreement(*row) for row in zip(*columns, strict=True)]


def lost_accuracy(exits: Sequence[Agreement], precision: Precision) -> list[str]:
    """Return a warning for each exit that lost more than `MOST_LOST` of its accuracy."""
    return [
        f"exit {k} is right on {each.after:.2%} of the held-out images in {precision}, and on "
        f"{each.before:.2%} in fp32. Serve the bundle in fp32 if that is too little"
        for k, each in enumerate(exits, 1)
        if each.before - each.after > MOST_LOST
    ]


def convert_bundle(
    bundle: Path,
    out: Path,
    data: str,
    precision: Precision,
    version: str | None,
    *,
    strict: bool = False,
    reject: tuple[str, float] | None = None,
    wanted: Wanted | None = None,
) -> None:
    """Convert a bundle, write the new one, and print what changed.

    Args:
        bundle: Folder of a bundle in fp32.
        out: Folder of the new bundle. It must not exist.
        data: Source of the images that the bundle was made with.
        precision: Number format to convert to.
        version: Version of the new bundle. `None`: that of the bundle, and the precision.
        strict: Refuse a data set with files that are left out.
        reject: Photos of other things, and the share of held-out images that can be rejected
            wrongly. `None`: the new bundle rejects nothing.
        wanted: Promises to certify for the new bundle. `None`: it promises nothing.

    Raises:
        ExportError: The bundle cannot be converted, or these are not its images.
        DataError: `data` has no such images.
        BundleError: The bundle cannot be read.
        OSError: The new bundle cannot be written.
    """
    console = Console(soft_wrap=True)
    manifest, floats = read_bundle(bundle)
    if manifest.precision != "fp32":
        raise ExportError(f"--bundle: is in {manifest.precision} already; give the one in fp32")
    images = own_images(manifest, data, strict=strict)
    before = Chain(floats).run(images.held_out.pixels)
    if not images.held_out.labelled:
        images = _labelled_by_last_exit(images, before)
    if precision == "int8":
        console.print(f"quantizing with {len(images.train)} images of the training set")
    converted = quantize(manifest, floats, images, precision)
    _print_agreement(agreement(manifest, before, converted, images.held_out), precision, console)
    new_version = version or f"{manifest.version}-{precision}"
    new = with_new_measurements(
        manifest, converted.export, version=new_version, precision=precision, reject=None
    )
    if reject is None and manifest.reject:
        console.print(DROPPED)
    new, export = _with_reject(new, converted.export, images.held_out, reject, console)
    new, lines = with_promises(new, export, images.held_out, wanted)
    write_bundle(out, new, export)
    for line in [*summary(new), *lines]:
        console.print(line, highlight=False)


def _labelled_by_last_exit(images: Dataset[Images], output: ChainOutput) -> Dataset[Images]:
    labels = torch.from_numpy(output.probabilities[-1].argmax(axis=1))
    return replace(images, held_out=Images(images.held_out.pixels, labels))


def _with_reject(
    manifest: Manifest,
    export: Export,
    held_out: Images,
    reject: tuple[str, float] | None,
    console: Console,
) -> tuple[Manifest, Export]:
    if reject is None:
        return manifest, export
    source, rate = reject
    photos = read_photos(source, manifest.input)
    return add_reject(manifest, export, held_out.pixels, photos, rate, console.print)


def _print_agreement(exits: list[Agreement], precision: Precision, console: Console) -> None:
    for k, exit_ in enumerate(exits, 1):
        console.print(
            f"  exit {k}   accuracy {exit_.before:.2%} -> {exit_.after:.2%}   "
            f"same class {exit_.same:.2%}",
            highlight=False,
        )
    for line in lost_accuracy(exits, precision):
        console.print(f"WARNING: {line}", highlight=False, style="yellow")
