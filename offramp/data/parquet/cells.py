"""Parquet files, and the cells of their columns."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.data.columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    check_alike,
    choose_column,
)
from offramp.data.errors import DatasetError
from offramp.data.records import printable

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

ROWS = 256  # of a file that are in memory at once
# What pyarrow raises for cells that are not of their column's type, apart from its own errors.
DAMAGED = (ValueError, OverflowError, MemoryError)


@contextmanager
def opened(file: Path) -> Iterator[ParquetFile]:
    """Open a parquet file. What pyarrow raises while it is open becomes an error with its path.

    Raises:
        DatasetError: The file cannot be read or is damaged, or pyarrow is missing.
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
        with ParquetFile(file) as parquet:
            yield parquet
    except (ArrowException, OSError, *DAMAGED) as error:
        reason = printable(" ".join(str(error).split()).rstrip("."))
        raise DatasetError(
            f"{file} cannot be read as a parquet file ({reason}). Download or write it again"
        ) from error


def image_column(parquet: ParquetFile, file: Path) -> str:
    """Return the name of the image column.

    Raises:
        DatasetError: The column is missing, or several columns are possible.
    """
    return _column(parquet, file, "image", "Image", IMAGE_COLUMNS)


def label_column(parquet: ParquetFile, file: Path) -> tuple[str, Sequence[str]]:
    """Return the name of the label column, and the names that the file declares for labels.

    Raises:
        DatasetError: There is no such column.
    """
    label = _column(parquet, file, "label", "ClassLabel", LABEL_COLUMNS)
    return label, _names(parquet, label)


def has_columns(file: Path, *, labels: bool) -> bool:
    """Return whether a parquet file can be read here, and has an image column.

    Args:
        file: Path of the file.
        labels: Whether it must have a label column too.
    """
    try:
        with opened(file) as parquet:
            image_column(parquet, file)
            if labels:
                label_column(parquet, file)
    except DatasetError:
        return False
    return True


def split_column(parquet: ParquetFile, file: Path) -> str | None:
    """Return the name of the column of splits, if any.

    Raises:
        DatasetError: Several columns have that name, in any case.
    """
    columns = [str(name) for name in parquet.schema_arrow.names]
    check_alike(columns, SPLIT_COLUMN, str(file))
    return next((name for name in columns if name.casefold() == SPLIT_COLUMN), None)


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
    if not os.path.isfile(path):  # noqa: PTH113 (raises no error for a name that is too long)
        raise DatasetError(f"{where}: there is no file {path}")
    return path


def path_or_bytes(cell: object) -> object:
    """Return the bytes in a cell of {"bytes", "path"}, or else its path, or any other cell."""
    if isinstance(cell, dict):
        return cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    return cell


def cells(parquet: ParquetFile, column: str, groups: Sequence[int] | None = None) -> Iterator[Any]:
    """Yield the cells of a column in some row groups, or in all, in order."""
    for batch in parquet.iter_batches(ROWS, groups, columns=[column]):
        yield from batch.column(0).to_pylist()


def _features(parquet: ParquetFile) -> dict[str, Mapping[str, Any]]:
    """Return the column types that the Hugging Face library stores.

    What is not of its form is ignored. The names of the columns decide then.
    """
    stored = (parquet.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
    try:
        features = _mapping(_mapping(_mapping(json.loads(stored)).get("info")).get("features"))
    except (ValueError, RecursionError):
        return {}
    return {name: _mapping(kind) for name, kind in features.items()}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _names(parquet: ParquetFile, column: str) -> Sequence[str]:
    """Return the names that a file declares for the numbers in a column, or nothing."""
    names = _features(parquet).get(column, {}).get("names")
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    return ()


def _column(parquet: ParquetFile, file: Path, kind: str, type_: str, usual: Sequence[str]) -> str:
    columns = list(parquet.schema_arrow.names)
    features = _features(parquet)
    typed = [name for name in columns if features.get(name, {}).get("_type") == type_]
    column = choose_column(columns, usual, kind, str(file), typed)
    check_alike(typed or columns, column, str(file))
    return column
