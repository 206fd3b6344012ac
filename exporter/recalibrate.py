"""Fit the temperatures and solve the budgets of a bundle on other images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from exporter.bundle import Export, score, with_new_measurements
from exporter.errors import ExportError
from exporter.reject.graphs import without_score
from exporter.stages.graph import StageGraph, set_temperature
from exporter.stages.runner import Chain
from exporter.stages.temperatures import fit_temperatures, some_of
from offramp.bundle.manifest import HeldOut, Manifest
from offramp.data.held_out import in_random_order
from offramp.data.records import Found
from offramp.data.summary import left_out_lines
from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images, image_input
from training.data.reopen import reopen_dataset
from training.data.splits import find_dataset, split_of
from training.recipes import Recipe, Resizing

SEED = 0  # of the order of other images
ROUNDING = 1e-3  # share of images that can change class by another processor's rounding

Log = Callable[[str], None]


def silent(_line: str) -> None:
    """Print nothing."""


def images_for(
    manifest: Manifest, source: str, split: str, *, strict: bool = False, log: Log = silent
) -> Images:
    """Load one split of labelled images in random order, at the bundle's input size.

    With `strict`, a data set with files that are left out is refused. Else `log` gets their names.

    Raises:
        DataError: The images cannot be loaded, or a label is not in the bundle.
        ExportError: The bundle resizes images in a way that training does not support.
    """
    size, resizing = manifest.input.height, resizing_of(manifest)
    found = find_dataset(source, strict=strict)
    files = split_of(found, split, size, manifest.labels, resizing)
    report_left_out(found, log)
    # Rows of a table can repeat the classes in turn, as the folds of a cross-fit do.
    order = torch.from_numpy(in_random_order(len(files), SEED))
    return files.select(order).decoded()


def resizing_of(manifest: Manifest) -> Resizing:
    """Return the way in which a bundle brings images to its size, as training does.

    Raises:
        ExportError: Training does not support it.
    """
    resizing = Resizing(manifest.input.filter, manifest.input.margin)
    if manifest.input != image_input(manifest.input.height, resizing):
        raise ExportError("--bundle: it resizes images in a way that is not supported here")
    return resizing


def report_left_out(found: Found | None, log: Log) -> None:
    """Name what is left out of a data set, and why."""
    for line in left_out_lines(found.left_out, found.hidden) if found else ():
        log(line)


def own_files(
    manifest: Manifest, source: str, *, strict: bool = False, log: Log = silent
) -> Dataset[ImageFiles]:
    """Return the images that the bundle was made with, split as in training.

    With `strict`, a data set with files that are left out is refused. Else `log` gets their names.

    Raises:
        DataError: `source` has no such images.
        ExportError: The bundle is a cascade, or the images have other classes.
    """
    if manifest.provenance.train_images == 0:
        raise ExportError(
            "--bundle: is a cascade of networks that were trained elsewhere, so that its training "
            "images are not known"
        )
    recorded = Recipe.recorded(manifest.provenance.config)
    recipe = Recipe.parse(recorded, option="provenance.config", name="a recipe")
    images = (manifest.provenance.train_images, manifest.held_out.images)
    dataset = reopen_dataset(source, recipe, images, labels=manifest.labels, strict=strict)
    if dataset.labels != manifest.labels:
        raise ExportError(
            f"--data: {source} has other classes than the bundle, or in another order: these are "
            "not the images that it was made with"
        )
    report_left_out(dataset.found, log)
    return dataset


def held_out_of(
    manifest: Manifest, source: str, *, strict: bool = False, log: Log = silent
) -> ImageFiles:
    """Return the images that training held out, on which the bundle was measured.

    With `strict`, a data set with files that are left out is refused. Else `log` gets their names.

    Raises:
        DataError: `source` has no such images.
        ExportError: The bundle is a cascade, or was measured on other images.
    """
    images = own_files(manifest, source, strict=strict, log=log).held_out
    if len(images) != manifest.held_out.images:
        raise ExportError(
            f"--held-out: {len(images):,} images of --data are held out, and the figures of the "
            f"bundle are those of {manifest.held_out.images:,}: this is not its data set"
        )
    return images


def check_accuracy(
    manifest: Manifest, classes: NDArray[np.int64], targets: NDArray[np.int64]
) -> list[float]:
    """Return the accuracy of each exit, if it is the manifest's.

    Args:
        manifest: The manifest of the bundle.
        classes: Likeliest class of each exit, [exits, N].
        targets: Labels of the images, [N].

    Raises:
        ExportError: The images are not those that the bundle was measured on.
    """
    found = [float(share) for share in (classes == targets).mean(axis=1)]
    most = max(ROUNDING, 1 / len(targets)) + 1e-9  # at least one image
    for k, (share, stage) in enumerate(zip(found, manifest.stages, strict=True), 1):
        if abs(share - stage.accuracy.value) > most:
            raise ExportError(
                f"--data: exit {k} is right on {share:.2%} of the held-out images, and the "
                f"manifest states {stage.accuracy.value:.2%}: these are not the images that the "
                "bundle was made with"
            )
    return found


def recalibrate(
    manifest: Manifest,
    graphs: list[StageGraph],
    images: Images,
    source: str,
    log: Log,
    rows: NDArray[np.int64] | None = None,
) -> tuple[Manifest, Export]:
    """Fit temperatures and solve budgets on these images.

    The result has no record `reject`, no scores and no promises, because other temperatures change
    them.

    Args:
        manifest: The manifest of a bundle.
        graphs: Its graphs. Their temperatures are changed, unless they have a score.
        images: Images that the network was not trained on.
        source: The name of the images in the manifest.
        log: Callback for progress messages.
        rows: Those of the images to fit temperatures on. `None`: all.
    """
    graphs = [without_score(graph) for graph in graphs]
    fitted_on = some_of(images, rows)
    log(f"fitting temperatures on {len(fitted_on):,} images")
    temperatures = fit_temperatures(graphs, fitted_on)
    for graph, temperature in zip(graphs, temperatures, strict=True):
        set_temperature(graph.model, temperature)
    log("solving budgets")
    output = Chain(graphs).run(images.pixels)
    scored = score(output, images, graphs)
    blockwise = [stage.blockwise_flops_to_exit for stage in manifest.stages]
    export = Export(graphs, blockwise, temperatures, scored, output.classes, manifest.times)
    held_out = HeldOut(images=scored.images, source=source)
    return with_new_measurements(manifest, export, held_out=held_out, reject=None), export
