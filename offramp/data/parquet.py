"""Parquet files with an image and a label in each row.

Several files are split by name. The split is that of the file's name if it is a split, or begins
with a split and a hyphen (`train-00000-of-00001.parquet`), or else that of the nearest folder with
such a name. A file that is given as the source, or one alone without such a name, is the training
split.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from offramp.data.columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    choose_column,
    label_text,
    order_classes,
)
from offramp.data.errors import DatasetError
from offramp.data.folders import SPLITS, split_named
from offramp.data.records import Encoded, Found, LeftOut, Part, Split, printable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS = 256  # of a file that are in memory at once
WITHHELD = -1  # the label that stands for a label that is not published, on the hub


@dataclass(frozen=True, slots=True)
class Rows:
    """Images in the rows of parquet files, in order.

    Attributes:
        files: Paths of the files.
        counts: Number of rows of each file.
        column: Name of the image column.
    """

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    column: str

    def __len__(self) -> int:
        return sum(self.counts)

    def __iter__(self) -> Iterator[Encoded]:
        for file in self.files:
            with opened(file) as parquet:
                for number, cell in enumerate(cells(parquet, self.column)):
                    yield Encoded(f"{file}#{number}", image_in(cell, file, number, self.column))

    def sample(self, number: int) -> Iterator[Encoded]:
        """Yield the first images, at most `number`."""
        return islice(self, number)

    def name(self, row: int) -> str:
        """Return the name of an image."""
        file = self._file_of(row)
        return f"{self.files[file]}#{row - sum(self.counts[:file])}"

    def folder_of(self, row: int) -> Path:
        """Return the folder of the file that a row is in."""
        return self.files[self._file_of(row)].parent

    def _file_of(self, row: int) -> int:
        return bisect_right([*accumulate(self.counts)], row)


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
    groups: dict[Split, list[Path]] = {}
    for file in files:
        groups.setdefault(_split(file, source, alone=len(files) == 1), []).append(file)
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


def opened(file: Path) -> ParquetFile:
    """Open a parquet file.

    Raises:
        DatasetError: It cannot be read, or pyarrow is missing.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"{file}: reading parquet files needs pyarrow; install it with: "
            "pip install 'offramp[parquet]'"
        ) from error
    try:
        return ParquetFile(file)
    except (OSError, ArrowException) as error:
        raise DatasetError(f"{file} cannot be read as a parquet file ({error})") from error


def image_column(parquet: ParquetFile, file: Path) -> str:
    """Return the name of the image column.

    Raises:
        DatasetError: The column is missing, or several columns are possible.
    """
    return _column(parquet, file, "image", "Image", IMAGE_COLUMNS)


def image_in(cell: object, file: Path, number: int, column: str) -> Path | bytes:
    """Return the bytes in an image cell, or the path where it has only a path.

    Raises:
        DatasetError: The cell is null, empty, a list or anything else.
    """
    where = f"{file}, row {number}: {column}"
    cell = path_or_bytes(cell)
    if cell is None:
        raise DatasetError(f"{where} is null. Give each row an image (rows count from 0)")
    if isinstance(cell, list):
        raise DatasetError(f"{where} is a list. Give each row one image (rows count from 0)")
    if not isinstance(cell, str | bytes):
        raise DatasetError(f"{where} is {type(cell).__name__}, and not an image file's bytes")
    if len(cell) == 0:
        raise DatasetError(f"{where} is empty. Give each row an image (rows count from 0)")
    if isinstance(cell, bytes):
        return cell
    path = file.parent / cell
    if not path.is_file():
        raise DatasetError(f"{where}: there is no file {path}")
    return path


def path_or_bytes(cell: object) -> object:
    """Return the bytes in a cell of {"bytes", "path"}, or else its path, or any other cell."""
    if isinstance(cell, dict):
        return cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    return cell


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
        label = _column(parquet, file, "label", "ClassLabel", LABEL_COLUMNS)
        image = image_column(parquet, file)
        names = _features(parquet).get(label, {}).get("names", [])
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


def cells(parquet: ParquetFile, column: str, groups: Sequence[int] | None = None) -> Iterator[Any]:
    """Yield the cells of a column in some row groups, or in all, in order."""
    for batch in parquet.iter_batches(ROWS, groups, columns=[column]):
        yield from batch.column(0).to_pylist()


def _features(parquet: ParquetFile) -> dict[str, dict[str, Any]]:
    """Return the column types that the Hugging Face library stores, if any."""
    stored = (parquet.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    features: dict[str, dict[str, Any]] = json.loads(stored).get("info", {}).get("features", {})
    return {name: kind for name, kind in features.items() if "_type" in kind}


def _column(parquet: ParquetFile, file: Path, kind: str, type_: str, usual: Sequence[str]) -> str:
    columns = list(parquet.schema_arrow.names)
    features = _features(parquet)
    typed = [name for name in columns if features.get(name, {}).get("_type") == type_]
    return choose_column(columns, usual, kind, str(file), typed)
