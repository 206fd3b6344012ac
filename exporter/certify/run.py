"""The command `offramp certify`, after its options are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from exporter.bundle import PLOT, read_bundle
from exporter.certify.options import CertifyOptions
from exporter.errors import ExportError
from exporter.output_folder import data_name
from exporter.promises.certificate import Outputs, agreeing, certify
from exporter.promises.wanted import wanted_from
from exporter.recalibrate import check_accuracy, held_out_of, resizing_of
from exporter.reject.photos import decode_photos, find_photos
from exporter.report import write_plot
from exporter.stages.graph import StageGraph
from exporter.stages.runner import Chain, right_classes
from offramp.bundle.manifest import MANIFEST, Manifest, read_manifest
from offramp.command_line.console import plain_console
from offramp.writing import write_text
from training.errors import DataError

BATCH = 64
LISTED = 5  # damaged images that are listed
FITTED_ON = (
    "note: the temperatures of this bundle were fitted on these images too. Certify it on images "
    "that nothing was fitted on to exclude any effect of that"
)


def certify_bundle(options: CertifyOptions) -> None:
    """Certify promises, write them to the bundle's manifest, and print them.

    With the images that training held out, the plot of the bundle is drawn again too.

    Raises:
        ExportError: The bundle cannot be read or was replaced, or no promise can be certified.
        DataError: There are no such images.
        UnwritableFileError: The manifest cannot be written. It is as it was.
    """
    console = plain_console()
    manifest, graphs = read_bundle(options.bundle, promises=False)
    outputs = (_held_out if options.held_out else _photos)(options, manifest, graphs, console)
    wanted = wanted_from(options.promises, options.delta)
    assert wanted is not None
    found = certify(manifest, outputs, wanted, options.source or data_name(options.data))
    for line in found.lines:
        console.print(line, highlight=False)
    if found.promises is None:
        raise ExportError(
            f"--data: {outputs.confidence.shape[1]:,} images certify no promise; give more images, "
            "or promise less (--promises)"
        )
    if read_manifest(options.bundle, promises=False) != manifest:
        raise ExportError(f"--bundle: {options.bundle} was replaced meanwhile; certify it again")
    new = manifest.with_promises(found.promises)
    write_text(options.bundle / MANIFEST, new.model_dump_json(indent=1) + "\n")
    if outputs.targets is not None:  # the held-out images, on which the budgets were solved too
        everything = agreeing(manifest, outputs, np.arange(outputs.confidence.shape[1]))
        right = outputs.classes == outputs.targets
        write_plot(options.bundle / PLOT, new, replace(everything, right=right))
    console.print(f"{options.bundle / MANIFEST} has {len(found.promises.offered)} promises")


def _held_out(
    options: CertifyOptions, manifest: Manifest, graphs: list[StageGraph], console: Console
) -> Outputs:
    images = held_out_of(manifest, options.data, log=console.print)
    console.print(FITTED_ON)
    parts = (part.pixels for part in images.parts())
    confidence, classes = _run(graphs, parts, len(images), console)
    targets = right_classes(images.targets, classes)
    check_accuracy(manifest, classes, targets)
    return Outputs(confidence, classes, targets)


def _photos(
    options: CertifyOptions, manifest: Manifest, graphs: list[StageGraph], console: Console
) -> Outputs:
    resizing_of(manifest)  # photos are decoded as in training
    photos = find_photos(options.data, "--data", console.print)
    total, damaged = sum(map(len, photos)), list[str]()

    def parts() -> Iterator[Tensor]:
        for some in decode_photos(photos, manifest.input, options.data):
            damaged.extend(str(each) for each in some if isinstance(each, DataError))
            pixels = [each for each in some if not isinstance(each, DataError)]
            if pixels:
                yield torch.from_numpy(np.stack(pixels))

    confidence, classes = _run(graphs, parts(), total, console)
    for reason in damaged[:LISTED]:
        console.print(f"left out: {reason.removeprefix('data: ')}", highlight=False)
    if len(damaged) > LISTED:
        console.print(f"and {len(damaged) - LISTED} others")
    return Outputs(confidence, classes)


def _run(
    graphs: list[StageGraph], parts: Iterator[Tensor], total: int, console: Console
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the confidence and the class of each exit, [exits, N], with a progress bar."""
    chain = Chain(graphs)
    confidence = [np.zeros((len(graphs), 0), np.float32)]
    classes = [np.zeros((len(graphs), 0), np.int64)]
    batches = (batch for part in parts for batch in torch.split(part, BATCH))
    steps = -(-total // BATCH)
    console.print(f"running {total:,} images to full depth")
    for batch in track(batches, "certifying", total=steps, console=console, transient=True):
        output = chain.run(batch)
        confidence.append(output.confidence)
        classes.append(output.classes)
    return np.concatenate(confidence, axis=1), np.concatenate(classes, axis=1)
