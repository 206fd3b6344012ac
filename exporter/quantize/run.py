"""The command `offramp quantize`, after its options are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from rich.console import Console

from exporter.bundle import Export, read_bundle, with_new_measurements, write_bundle
from exporter.promises.bundle import with_promises
from exporter.promises.wanted import wanted_from
from exporter.quantize import Precision
from exporter.quantize.convert import Agreement, agreement, lost_accuracy, own_images, quantize
from exporter.quantize.options import QuantizeOptions
from exporter.reject.add_scores import DROPPED, add_reject
from exporter.reject.photos import read_photos
from exporter.report import summary
from exporter.stages.graph import StageGraph
from exporter.stages.runner import Chain, right_classes
from offramp.bundle.manifest import Manifest
from offramp.command_line.console import plain_console
from training.data.datasets import Dataset
from training.data.images import Images


def convert_bundle(options: QuantizeOptions) -> None:
    """Convert a bundle in fp32, write the new one, and print what changed.

    Raises:
        ExportError: The bundle cannot be converted, or these are not its images.
        DataError: `--data` has no such images.
        BundleError: The bundle cannot be read.
        OSError: The new bundle cannot be written.
    """
    console, precision = plain_console(), options.precision
    manifest, floats = read_bundle(options.bundle)
    images = own_images(manifest, options.data, strict=options.strict, log=console.print)
    export, held_out = _compared(manifest, floats, images, precision, console)
    version = options.version or f"{manifest.version}-{precision}"
    new = with_new_measurements(manifest, export, version=version, precision=precision, reject=None)
    if options.reject:
        photos = read_photos(options.reject, new.input, console.print)
        rate = options.reject_rate
        new, export = add_reject(new, export, held_out.pixels, photos, rate, console.print)
    elif manifest.reject:
        console.print(DROPPED)
    wanted = wanted_from(options.promises, options.delta)
    new, lines = with_promises(new, export, held_out, wanted)
    write_bundle(options.out, new, export)
    for line in [*summary(new), *lines]:
        console.print(line, highlight=False)


def _compared(
    manifest: Manifest,
    floats: Sequence[StageGraph],
    images: Dataset[Images],
    precision: Precision,
    console: Console,
) -> tuple[Export, Images]:
    """Convert the stages, print what changed, and return the new ones and the held-out images."""
    before = Chain(floats).run(images.held_out.pixels)
    labels = torch.from_numpy(right_classes(images.held_out.targets, before.classes))
    images = replace(images, held_out=Images(images.held_out.pixels, labels))
    if precision == "int8":
        console.print(f"quantizing with {len(images.train)} images of the training set")
    converted = quantize(manifest, floats, images, precision)
    _print_agreement(agreement(manifest, before, converted, images.held_out), precision, console)
    return converted.export, images.held_out


def _print_agreement(exits: list[Agreement], precision: Precision, console: Console) -> None:
    for k, exit_ in enumerate(exits, 1):
        console.print(
            f"  exit {k}   accuracy {exit_.before:.2%} -> {exit_.after:.2%}   "
            f"same class {exit_.same:.2%}",
            highlight=False,
        )
    for line in lost_accuracy(exits, precision):
        console.print(f"WARNING: {line}", highlight=False, style="yellow")
