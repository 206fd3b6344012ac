"""Data sets without labels. Their classes are those of the network that labels them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from offramp.data.errors import DatasetError
from offramp.data.held_out import AT_MOST, SHARE, in_random_order
from offramp.data.records import Found
from offramp.data.unlabelled import read_unlabelled
from training.data.datasets import Dataset
from training.data.images import ImageFiles
from training.data.splits import files_of
from training.errors import DataError
from training.recipes import Recipe


def open_unlabelled(
    source: str, recipe: Recipe, labels: tuple[str, ...], *, strict: bool = False
) -> Dataset[ImageFiles]:
    """Open images without labels, and set held-out images apart at random.

    Labels that the source has are ignored. All targets are `UNLABELLED`.

    Args:
        source: A folder, in which all images at any depth are read, or a parquet file.
        recipe: Recipe of the run: size, resizing, seed and number of held-out images.
        labels: Names of the classes that the network knows.
        strict: Refuse a folder with files that are left out.

    Raises:
        DataError: The source does not exist, has no images, or too few for the held-out ones.
    """
    found = _found(source, strict=strict)
    files = files_of(found, found.part("train"), recipe.size, recipe.resizing)
    held_out = _number_held_out(recipe, len(files))
    order = torch.from_numpy(in_random_order(len(files), recipe.seed))
    return Dataset(
        files.select(order[held_out:]), files.select(order[:held_out]), labels, found=found
    )


def _found(source: str, *, strict: bool) -> Found:
    try:
        found = read_unlabelled(source)
        if strict:
            found.check_strict()
    except DatasetError as error:
        raise DataError(f"data: {error}") from error
    return found


def _number_held_out(recipe: Recipe, images: int) -> int:
    held_out = recipe.held_out or min(AT_MOST, math.ceil(images * SHARE))
    if held_out >= images:
        raise DataError(
            f"held_out: {held_out} of {images} images leaves no training images; give fewer "
            "(--held-out N) or add images"
        )
    return held_out


def class_names(path: Path | None, classes: int) -> tuple[str, ...]:
    """Return the names of the classes in a file, one on each line, or else their numbers from 0.

    Raises:
        DataError: The file cannot be read, or has another number of names, or one name twice.
    """
    if path is None:
        return tuple(map(str, range(classes)))
    names = _lines(path)
    _check_names(names, path, classes)
    return tuple(names)


def _check_names(names: Sequence[str], path: Path, classes: int) -> None:
    if len(names) != classes:
        raise DataError(
            f"--class-names: {path} has {len(names)} names, and the weights are for {classes} "
            "classes; give one name on each line, in their order"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"--class-names: {path} has the name {twice!r} twice")


def _lines(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--class-names: {path} cannot be read: {error}") from error
