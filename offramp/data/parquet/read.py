"""Parquet files with an image and a label in each row.

Several files are split by name. The split is that of the file's name if it is a split, or begins
with a split and a hyphen (`train-00000-of-00001.parquet`), or else that of the nearest folder with
such a name. A file that is given as the source, or one alone without such a name, is the training
split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offramp.data.columns import label_text, order_classes
from offramp.data.errors import DatasetError
from offramp.data.folders import SPLITS, split_named
from offramp.data.parquet.cells import cells, image_column, image_in, label_column, opened
from offramp.data.parquet.rows import Rows
from offramp.data.records import Found, LeftOut, Part, Split, printable

WITHHELD = -1  # the label that stands for a label that is not published, on the hub


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The labels of a file, with the names that the file declares for them."""

    images: str
    labels: list[str] | None  # None: withheld
    names: Sequence[str]


def read_parquet(files: Sequence[Path], source: Path, left_out: Sequence[LeftOut] = ()) -> Found:
    """Read the labels of parquet files, and check that each row has an image and a label.

    Args:
        files: Paths of the files.
        source: The file or folder that they were found in.
        left_out: What was left out of the folder.

    Raises:
        DatasetError: A file cannot be read, is of no known split, or lacks a column, or a cell
            is null, empty or a list.
    """
    groups = _groups(files, source)
    read = {split: [_labelled(file, split) for file in group] for split, group in groups.items()}
    named = list(left_out)
    for split, labelled in list(read.items()):
        if any(each.labels is None for each in labelled):
            named.append(LeftOut(split, "has no labels: they are withheld", files=0))
            del read[split]
    classes, without = _classes([each for group in read.values() for each in group], source)
    named += [LeftOut(label, "is a class without images", files=0) for label in without]
    parts = {
        split: _part(groups[split], labelled, classes, source) for split, labelled in read.items()
    }
    return Found(str(source), classes, parts, tuple(named))


def _groups(files: Sequence[Path], source: Path) -> dict[Split, list[Path]]:
    """Return the files of each split."""
    groups: dict[Split, list[Path]] = {}
    for file in files:
        groups.setdefault(_split(file, source, alone=len(files) == 1), []).append(file)
    return groups


def _split(file: Path, source: Path, *, alone: bool) -> Split:
    if file == source:
        return "train"
    path = file.relative_to(source)
    stem = path.name.partition(".")[0]
    for name in (stem, stem.partition("-")[0], *reversed(path.parts[:-1])):
        if (split := split_named(name)) is not None:
            return split
    if alone:
        return "train"
    raise DatasetError(
        f"{printable(file)} is of no known split; rename it, for example train-00.parquet "
        f"(splits: {', '.join(SPLITS)})"
    )


def _labelled(file: Path, split: Split) -> _Labelled:
    with opened(file) as parquet:
        label, names = label_column(parquet, file)
        image = image_column(parquet, file)
        for number, cell in enumerate(cells(parquet, image)):
            image_in(cell, file, number, image)
        values = list(cells(parquet, label))
    if split == "test" and values and all(value in (None, WITHHELD) for value in values):
        return _Labelled(image, None, names)
    labels = [
        label_text(value, names, f"{file}, row {number}: {label}")
        for number, value in enumerate(values)
    ]
    return _Labelled(image, labels, names)


def _classes(files: Sequence[_Labelled], source: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes that have images, in order, and declared classes without images."""
    found = {label for file in files for label in file.labels or ()}
    if not found:
        raise DatasetError(f"{source} has no rows with labels")
    declared = list(dict.fromkeys(name for file in files for name in file.names))
    return order_classes(found, declared)


def _part(
    files: Sequence[Path], labelled: Sequence[_Labelled], classes: Sequence[str], source: Path
) -> Part:
    columns = {each.images for each in labelled}
    if len(columns) > 1:
        raise DatasetError(
            f"{source}: files of one split have the image columns {', '.join(sorted(columns))}. "
            "Name them alike"
        )
    index = {label: number for number, label in enumerate(classes)}
    targets: NDArray[np.int64] = np.array(
        [index[label] for each in labelled for label in each.labels or ()], dtype=np.int64
    )
    counts = tuple(len(each.labels or ()) for each in labelled)
    return Part(Rows(tuple(files), counts, columns.pop()), targets)
