"""Convert the stages of a bundle to fewer bits.

8-bit integers are for CPUs, 16-bit floats (`--precision fp16`) for GPUs. The graphs are joined,
converted and cut by need again. Every figure in the manifest is measured on the new graphs:
accuracies, exit shares, budgets. The images must be those that the bundle was made with. A check
refuses others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from exporter.bundle import Export, measured
from exporter.errors import ExportError
from exporter.quantize import Precision
from exporter.quantize.to_fp16 import convert_to_fp16
from exporter.quantize.to_int8 import convert_to_int8
from exporter.recalibrate import Log, check_accuracy, own_files, silent
from exporter.stages.graph import StageGraph, stages_by_need
from exporter.stages.runner import Chain, ChainOutput
from offramp.bundle.graphs import join
from offramp.bundle.manifest import Manifest
from training.data.datasets import Dataset
from training.data.images import Images

CALIBRATION_IMAGES = 512
MOST_LOST = 0.01  # accuracy of an exit; more is reported


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


def own_images(
    manifest: Manifest, source: str, *, strict: bool = False, log: Log = silent
) -> Dataset[Images]:
    """Return calibration images of the training set, and the held-out images of the bundle.

    With `strict`, a data set with files that are left out is refused. Else `log` gets their names.

    Raises:
        DataError: `source` has no such images.
    """
    dataset = own_files(manifest, source, strict=strict, log=log)
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
    graphs = _converted(floats, images.train, precision)
    blockwise = [stage.blockwise_flops_to_exit for stage in manifest.stages]
    temperatures = [stage.temperature for stage in manifest.stages]
    output = Chain(graphs).run(images.held_out.pixels)
    if not np.isfinite(output.confidence).all():
        raise ExportError(f"--bundle: some of its values are too large for {precision}")
    return Quantized(measured(graphs, blockwise, temperatures, output, images.held_out), output)


def _converted(
    floats: Sequence[StageGraph], calibration: Images, precision: Precision
) -> list[StageGraph]:
    """Join the stages, convert them together, and cut them again."""
    whole = join([graph.model for graph in floats])
    if precision == "fp16":
        whole = convert_to_fp16(whole)
    else:
        whole = convert_to_int8(whole, calibration.pixels.numpy())
    return stages_by_need(onnx.shape_inference.infer_shapes(whole), len(floats))


def agreement(
    manifest: Manifest, floats: ChainOutput, converted: Quantized, held_out: Images
) -> list[Agreement]:
    """Compare each exit before and after the conversion.

    Raises:
        ExportError: The held-out images are not those of the manifest.
    """
    before, after = floats.classes, converted.output.classes
    accuracy = check_accuracy(manifest, before, held_out.targets.numpy())
    same = (before == after).mean(axis=1)
    after_accuracy = converted.export.scored.right.mean(axis=1)
    columns = (accuracy, after_accuracy.tolist(), same.tolist())
    return [Agreement(*row) for row in zip(*columns, strict=True)]


def lost_accuracy(exits: Sequence[Agreement], precision: Precision) -> list[str]:
    """Return a warning for each exit that lost more than `MOST_LOST` of its accuracy."""
    return [
        f"exit {k} is right on {each.after:.2%} of the held-out images in {precision}, and on "
        f"{each.before:.2%} in fp32. Serve the bundle in fp32 if that is too little"
        for k, each in enumerate(exits, 1)
        if each.before - each.after > MOST_LOST
    ]
