"""Splits of a data set, found in files, a folder or on the hub.

The rules for files and folders are those of `offramp.data`. Names on the Hugging Face hub go
through `datasets`.
"""

from __future__ import annotations

import numpy as np
import torch

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from offramp.data.records import Found, Part, Split, other_spelling
from training.data.encoded import by_row
from training.data.hub.names import hub_name
from training.data.images import File, ImageFiles
from training.errors import DataError
from training.recipes import PLAIN, Resizing


def find_dataset(source: str, *, strict: bool = False) -> Found:
    """Read a data set from files, a folder or the hub, without decoding images.

    Raises:
        DataError: The source does not exist, or has no images with labels; or `strict`, and
            something is left out.
    """
    try:
        found = read_dataset(source) if hub_name(source) is None else _read_hub(source)
        if strict:
            found.check_strict()
    except DatasetError as error:
        raise DataError(f"data: {error}") from error
    return found


def _read_hub(source: str) -> Found:
    from training.data.hub.read import read_hub  # which imports `datasets`: a second

    return read_hub(source)


def load_split(
    source: str,
    split: str,
    size: int,
    labels: tuple[str, ...],
    *,
    strict: bool = False,
    resizing: Resizing = PLAIN,
) -> ImageFiles:
    """Open one split of a data set; targets are positions in `labels`.

    Args:
        source: See `open_dataset`.
        split: `train`, `validation` or `test`.
        size: Height and width of the decoded images, in pixels.
        labels: All allowed labels.
        strict: Refuse a data set with files that are left out.
        resizing: Way to bring an image to that size.

    Raises:
        DataError: The split does not exist, or an image has a label that is not in `labels`.
    """
    return split_of(find_dataset(source, strict=strict), split, size, labels, resizing)


def split_of(
    found: Found, split: str, size: int, labels: tuple[str, ...], resizing: Resizing = PLAIN
) -> ImageFiles:
    """Open one split of a data set that was read; see `load_split`."""
    named = next((name for name in found.parts if name == split), None)
    if named is None:
        raise DataError(
            f"data: {found.source} has no split {split!r}, only {', '.join(found.parts)}"
        )
    return _relabelled(found, named, size, labels, resizing)


def load_files(source: str, split: str, labels: tuple[str, ...]) -> list[File]:
    """Read the encoded image files of one split; see `load_split`."""
    return list(load_split(source, split, 1, labels).files())


def load_test(
    source: str, size: int, labels: tuple[str, ...], resizing: Resizing = PLAIN
) -> ImageFiles | None:
    """Open the test split; return `None` if it does not exist or has no labels.

    Raises:
        DataError: There is no such data set, or a label is not in `labels`.
    """
    found = find_dataset(source)
    if "test" not in found.parts:
        return None
    return _relabelled(found, "test", size, labels, resizing)


def _relabelled(
    found: Found, split: Split, size: int, labels: tuple[str, ...], resizing: Resizing
) -> ImageFiles:
    part, index = found.parts[split], {label: number for number, label in enumerate(labels)}
    used = [found.classes[k] for k in np.unique(part.targets)]
    if foreign := [label for label in used if label not in index]:
        raise DataError(
            f"data: {found.source}, {split}: label {foreign[0]!r} is not in the training set"
            f"{other_spelling(foreign[0], labels)}"
        )
    of_class = np.array([index.get(label, -1) for label in found.classes], dtype=np.int64)
    return files_of(found, Part(part.images, of_class[part.targets]), size, resizing)


def files_of(found: Found, part: Part, size: int, resizing: Resizing) -> ImageFiles:
    """Return the images of a part of a data set, to be decoded at that size."""
    encoded = by_row(part.images, found.source)
    rows, targets = torch.arange(len(part.targets)), torch.from_numpy(part.targets)
    return ImageFiles(encoded, rows, targets, size, found.source, resizing)
