"""The images of a run: decoded into memory, or on disk, as they are or shrunk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track as rich_track

from training.data.datasets import Dataset, load_test
from training.data.images import ImageFiles, Images
from training.data.shrunk.cache import shrunk
from training.distributed import rank, wait_for_first
from training.recipes import Recipe

IN_MEMORY = 4 * 2**30  # maximum bytes of pixels


def run_images(
    dataset: Dataset[ImageFiles], recipe: Recipe, where: str, cache: Path, console: Console
) -> Dataset[Images] | Dataset[ImageFiles]:
    """Return the images, in memory if `where` says so, or if they fit. Else they can be shrunk.

    Args:
        dataset: Images of the run.
        recipe: Recipe of the run.
        where: `memory`, `disk` or `auto`.
        cache: Folder of shrunk images.
        console: Console for the progress.

    Raises:
        DataError: An image is damaged.
        UnwritableFileError: The cache cannot be written.
    """
    count = len(dataset.train) + len(dataset.held_out)
    if in_memory(recipe, where, count):
        return dataset.decoded()
    if not recipe.shrink:
        return dataset
    if rank() > 0:
        wait_for_first()  # it makes the cache
    found = _shrunk(dataset, recipe, cache, console)
    if rank() == 0:
        wait_for_first()
    return found


def _shrunk(
    dataset: Dataset[ImageFiles], recipe: Recipe, cache: Path, console: Console
) -> Dataset[ImageFiles]:
    def track(groups: Iterable[list[int]], number: int) -> Iterable[list[int]]:
        return rich_track(groups, "shrinking images", number, console=console, transient=True)

    into = partial(shrunk, folder=cache, track=track)
    train = replace(dataset.train, smallest_crop=recipe.crop_area)
    return replace(
        dataset,
        train=into(train, name="train", parts=recipe.crop == "resized"),
        held_out=into(dataset.held_out, name="held-out", parts=False),
        originals=dataset.train,
    )


def run_test_images(
    dataset: Dataset[ImageFiles], recipe: Recipe, where: str
) -> Images | ImageFiles | None:
    """Return the images of the test split, if any, to report errors in them before training.

    All are decoded if they fit in memory, else one is. Only the first process reads them. The
    others wait for it and get `None`.
    """
    test = _test_images(dataset, recipe, where) if rank() == 0 else None
    wait_for_first()  # so that the next message of the others does not time out
    return test


def _test_images(
    dataset: Dataset[ImageFiles], recipe: Recipe, where: str
) -> Images | ImageFiles | None:
    test = dataset.test
    if dataset.found is None:  # split as in version 0.1
        test = load_test(recipe.data, recipe.size, dataset.labels, recipe.resizing)
    if not test:
        return None
    if in_memory(recipe, where, len(test)):
        return test.decoded()
    test.select(torch.arange(1)).decoded()
    return test


def in_memory(recipe: Recipe, where: str, images: int) -> bool:
    """Return True if that many decoded images are kept in memory."""
    read_once = recipe.crop == "resized" or recipe.cache_features
    fits = not read_once and 3 * images * recipe.size**2 <= IN_MEMORY
    return where == "memory" or (where == "auto" and fits)
