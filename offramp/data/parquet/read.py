"""Parquet files with an image and a label in each row.

Several files are split by name. The split is that of the file's name if it is a split, or begins
with a split and a hyphen (`train-00000-of-00001.parquet`), or else that of the nearest folder with
such a name. A file that is given as the source, or one alone without such a name, is the training
split. A column `split`, if there is one, names the split of each row instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from offramp.data.columns import label_text, order_classes, split_in
from offramp.data.errors import DatasetError
from offramp.data.parquet.cells import (
    cells,
    image_column,
    image_in,
    label_column,
    opened,
    split_column,
)
from offramp.data.parquet.rows import Rows
from offramp.data.parquet.shards import (
    check_complete,
    check_names,
    check_types,
    default_split,
    distinct,
    stated_split,
)
from offramp.data.records import Found, LeftOut, Part, Split, listed
from offramp.data.same_files import SameFiles, identity_of

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

WITHHELD = -1  # the label that stands for a label that is not published, on the hub


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The rows of a file that are in one split, with their labels.

    Attributes:
        file: Path of the file.
        count: Number of all rows of the file.
        images: Name of its image column.
        rows: Numbers of the rows, from 0. A file without a column `split` has all in one split.
        labels: Label of each of them. `None`: withheld.
        names: Names that the file declares for labels.
        type_: Type of the cells of labels.
        paths: Path of the image, by row, where the file has only its path.
    """

    file: Path
    count: int
    images: str
    rows: Sequence[int]
    labels: list[str] | None
    names: Sequence[str]
    type_: type
    paths: Mapping[int, Path]


def read_parquet(files: Sequence[Path], source: Path, left_out: Sequence[LeftOut] = ()) -> Found:
    """Read the labels of parquet files, and check that each row has an image and a label.

    Args:
        files: Paths of the files.
        source: The file or folder that they were found in.
        left_out: What was left out of the folder. Images among it that a cell names are not.

    Raises:
        DatasetError: A file cannot be read, is missing, is of no known split, lacks a column, or
            declares other classes. Or a cell is null, empty or a list.
    """
    read: dict[Split, list[_Labelled]] = {}
    if [*files] != [source]:
        check_complete(files)
    files, second = distinct(files, source)
    for file in files:
        for split, rows in _labelled(file, source, alone=len(files) == 1).items():
            read.setdefault(split, []).append(rows)
    named = list(second)
    files_in = SameFiles()
    for split, group in read.items():
        read[split] = [_once(each, split, files_in, named) for each in group]
    named = [*(each for each in left_out if not _is_used(source / each.name, files_in)), *named]
    for split, labelled in list(read.items()):
        if reason := _unused(labelled):
            named.append(LeftOut(split, reason, files=0))
            del read[split]
    every = [each for group in read.values() for each in group]
    check_names([(each.file, each.names, set(each.labels or ())) for each in every])
    check_types([(x.file, x.type_, set(x.labels)) for x in every if x.labels and not x.names])
    classes, without = _classes(every, source)
    named += [LeftOut(label, "is a class without images", files=0) for label in without]
    parts = {split: _part(labelled, classes, source) for split, labelled in read.items()}
    declared = tuple(dict.fromkeys(name for each in every for name in each.names))
    return Found(str(source), classes, parts, tuple(named), declared=declared)


def _labelled(file: Path, source: Path, *, alone: bool) -> dict[Split, _Labelled]:
    """Return the rows of a file in each split."""
    with opened(file) as parquet:
        label, names = label_column(parquet, file)
        image = image_column(parquet, file)
        values = list(cells(parquet, label))
        groups = _rows_by_split(parquet, file, source, len(values), alone=alone)
        images = (
            image_in(cell, file, row, image) for row, cell in enumerate(cells(parquet, image))
        )
        paths = {row: each for row, each in enumerate(images) if isinstance(each, Path)}
    return {
        split: _Labelled(
            file,
            len(values),
            image,
            rows,
            _labels({row: values[row] for row in rows}, split, names, (file, label)),
            names,
            next((type(value) for value in values if value is not None), str),
            paths,
        )
        for split, rows in groups.items()
    }


def _once(
    labelled: _Labelled, split: Split, files: SameFiles, left_out: list[LeftOut]
) -> _Labelled:
    """Return rows without those with an image file that was listed before, which are left out.

    Raises:
        DatasetError: A file was listed with another label or in another split.
    """
    if labelled.labels is None or not labelled.paths:
        return labelled
    kept = {}
    for row, label in zip(labelled.rows, labelled.labels, strict=True):
        path, place = labelled.paths.get(row), f"{labelled.file}, row {row}"
        if path and files.add(
            identity_of(path.stat()), label, split, f"{place}: {path}", f"in {place}"
        ):
            left_out.append(LeftOut(f"{labelled.file}#{row}", "is listed twice", files=0))
        else:
            kept[row] = label
    return replace(labelled, rows=[*kept], labels=[*kept.values()])


def _is_used(path: Path, files: SameFiles) -> bool:
    try:
        return identity_of(path.stat()) in files
    except OSError:
        return False  # a broken link, or one that cannot be opened


def _labels(
    values: Mapping[int, object], split: Split, names: Sequence[str], place: tuple[Path, str]
) -> list[str] | None:
    """Return the labels of rows, or `None` if those of a test split are withheld.

    Args:
        values: Cell of each row.
        split: Split of the rows.
        names: Names that the file declares for numbers. Spaces around them are kept.
        place: File and column, for errors.
    """
    if split == "test" and values and all(value in (None, WITHHELD) for value in values.values()):
        return None
    file, column = place
    labels = [
        label_text(value, names, f"{file}, row {row}: {column}") for row, value in values.items()
    ]
    return labels if names else [label.strip() for label in labels]


def _rows_by_split(
    parquet: ParquetFile, file: Path, source: Path, count: int, *, alone: bool
) -> Mapping[Split, Sequence[int]]:
    """Return the rows of each split: by the column `split`, or else all in that of the name."""
    column = split_column(parquet, file)
    stated = stated_split(file, source)
    if column is None:
        return {stated or default_split(file, source, alone=alone): range(count)}
    groups: dict[Split, list[int]] = {}
    for row, value in enumerate(cells(parquet, column)):
        where = f"{file}, row {row}"
        split = split_in(value, where)
        if stated not in (None, split):
            raise DatasetError(
                f"{where}: split is {value!r}, and the path of the file says {stated}. Rename the "
                "file, or remove the column"
            )
        groups.setdefault(split, []).append(row)
    return groups


def _unused(labelled: Sequence[_Labelled]) -> str | None:
    """Return the reason to leave a split out, if there is one."""
    if not any(each.rows for each in labelled):
        return "has no rows"
    withheld = [str(each.file) for each in labelled if each.labels is None]
    if withheld and any(each.labels for each in labelled):
        return (
            f"has no labels in {listed(withheld)}: they are withheld. Remove these rows to use the "
            "others"
        )
    return "has no labels: they are withheld" if withheld else None


def _classes(files: Sequence[_Labelled], source: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes that have images, in order, and declared classes without images."""
    found = {label for file in files for label in file.labels or ()}
    if not found:
        raise DatasetError(f"{source} has no rows with labels")
    declared = list(dict.fromkeys(name for file in files for name in file.names))
    return order_classes(found, declared)


def _part(labelled: Sequence[_Labelled], classes: Sequence[str], source: Path) -> Part:
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
    files, counts = tuple(each.file for each in labelled), tuple(each.count for each in labelled)
    return Part(Rows(files, counts, columns.pop(), _chosen(labelled)), targets)


def _chosen(labelled: Sequence[_Labelled]) -> NDArray[np.int64] | None:
    """Return the numbers of the rows over all files, or `None` where every row is used."""
    if all(len(each.rows) == each.count for each in labelled):
        return None
    starts = [0, *accumulate(each.count for each in labelled[:-1])]
    return np.concatenate(
        [
            np.asarray(each.rows, np.int64) + start
            for each, start in zip(labelled, starts, strict=True)
        ]
    )
