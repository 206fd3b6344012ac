"""`python -m exporter.quantize --bundle DIR --out DIR`: a bundle in fewer bits.

In 8-bit integers for CPUs, with `--precision fp16` in 16-bit floats for GPUs. The graphs are
converted together, cut by need again, and everything that the manifest states is measured anew
on what ships: accuracies, exits, budgets. The images are those that the bundle was made with,
which is checked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
from rich.console import Console

from exporter.bundle import (
    Export,
    check_place,
    read_bundle,
    score,
    with_new_measurements,
    write_bundle,
)
from exporter.errors import ExportError
from exporter.graph import StageGraph, stages_by_need
from exporter.report import summary
from exporter.to_fp16 import halved
from exporter.to_int8 import quantized
from exporter.verify import Chain, ChainOutput
from offramp.bundle.errors import BundleError, CutError
from offramp.bundle.graphs import join
from offramp.bundle.manifest import Manifest
from training.data.datasets import Dataset, open_dataset
from training.data.images import ImageFiles, Images
from training.errors import TrainingError
from training.recipes import Recipe

CALIBRATION_IMAGES = 512
Precision = Literal["int8", "fp16"]
SAME = 1e-3  # of the images may change their class by another processor's rounding


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of an exit: accuracy before and after, and the share of images with the same class."""

    before: float
    after: float
    same: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """The stages in fewer bits, and what they said of the held-out images."""

    export: Export
    output: ChainOutput


def own_files(manifest: Manifest, source: str) -> Dataset[ImageFiles]:
    """The images that the bundle was made with, split as training split them.

    Raises:
        DataError: there are no such images.
    """
    recipe = Recipe.parse(manifest.provenance.config, option="provenance.config", name="a recipe")
    return open_dataset(source, recipe.size, recipe.held_out, recipe.seed)


def own_images(manifest: Manifest, source: str) -> Dataset[Images]:
    """The calibration images of the training set and the held-out ones, as the bundle had them.

    Raises:
        DataError: there are no such images.
    """
    dataset = own_files(manifest, source)
    some = dataset.train.select(torch.arange(min(CALIBRATION_IMAGES, len(dataset.train))))
    return Dataset(some.decoded(), dataset.held_out.decoded(), dataset.labels)


def quantize(
    manifest: Manifest,
    floats: Sequence[StageGraph],
    images: Dataset[Images],
    precision: Precision = "int8",
) -> Quantized:
    """Convert the stages of a bundle together, and measure what comes out.

    Args:
        manifest: of the bundle.
        floats: its stages.
        images: as `own_images` gives them.
        precision: to convert them to.

    Raises:
        ExportError: numbers grew too large for 16 bits.
    """
    whole = join([graph.model for graph in floats])
    whole = halved(whole) if precision == "fp16" else quantized(whole, images.train.pixels.numpy())
    graphs = stages_by_need(onnx.shape_inference.infer_shapes(whole), len(floats))
    blockwise = [stage.blockwise_flops_to_exit for stage in manifest.stages]
    temperatures = [stage.temperature for stage in manifest.stages]
    output = Chain(graphs).run(images.held_out.pixels)
    if not np.isfinite(output.confidence).all():
        raise ExportError(f"--bundle: some of its numbers are too large for {precision}")
    scored = score(output, images.held_out, graphs)
    return Quantized(Export(graphs, blockwise, temperatures, scored), output)


def agreement(
    manifest: Manifest, floats: ChainOutput, made: Quantized, held_out: Images
) -> list[Agreement]:
    """Each exit before and after.

    Raises:
        ExportError: the held-out images are not those of the manifest.
    """
    before = floats.probabilities.argmax(axis=2)
    after = made.output.probabilities.argmax(axis=2)
    right = (before == held_out.targets.numpy()).mean(axis=1)
    stated = [stage.accuracy.value for stage in manifest.stages]
    for k, (seen, said) in enumerate(zip(right.tolist(), stated, strict=True), 1):
        if abs(seen - said) > SAME:
            raise ExportError(
                f"--data: exit {k} is right on {seen:.2%} of the held-out images, and the manifest "
                f"says {said:.2%}; these are not the images that the bundle was made with"
            )
    same = (before == after).mean(axis=1)
    accuracy = made.export.scored.right.mean(axis=1)
    return [
        Agreement(*each)
        for each in zip(right.tolist(), accuracy.tolist(), same.tolist(), strict=True)
    ]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m exporter.quantize",
        description="A bundle in fewer bits, with all its statements measured anew: 8-bit integers "
        "are two to three times as fast on processors with VNNI, 16-bit floats are for GPUs.",
    )
    made.add_argument("--bundle", type=Path, required=True, help="in fp32")
    made.add_argument("--out", type=Path, required=True, help="folder of the new one; must be new")
    made.add_argument("--data", required=True, help="the images that the bundle was made with")
    made.add_argument("--precision", choices=("int8", "fp16"), default="int8")
    made.add_argument(
        "--version", help="the new one's version (default: the old one's and the precision)"
    )
    return made


def run(arguments: argparse.Namespace, console: Console) -> None:
    """Convert, then say what came of it."""
    check_place(arguments.out)
    manifest, floats = read_bundle(arguments.bundle)
    if manifest.precision != "fp32":
        raise ExportError(f"--bundle: is in {manifest.precision} already; give the one in fp32")
    images = own_images(manifest, arguments.data)
    if arguments.precision == "int8":
        console.print(f"quantising by {len(images.train)} images of the training set")
    made = quantize(manifest, floats, images, arguments.precision)
    before = Chain(floats).run(images.held_out.pixels)
    for k, exit_ in enumerate(agreement(manifest, before, made, images.held_out), 1):
        console.print(
            f"  exit {k}   accuracy {exit_.before:.2%} -> {exit_.after:.2%}   "
            f"same class {exit_.same:.2%}",
            highlight=False,
        )
    precision = arguments.precision
    version = arguments.version or f"{manifest.version}-{precision}"
    described = with_new_measurements(manifest, made.export, version=version, precision=precision)
    write_bundle(arguments.out, described, made.export)
    for line in summary(described):
        console.print(line, highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, or 1 for a user's error."""
    try:
        run(parser().parse_args(argv), Console(soft_wrap=True))
    except (TrainingError, BundleError, CutError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
