"""Encoded images that are read by row: image files, and rows of tables."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from offramp.data.errors import DatasetError
from offramp.data.parquet.cells import opened
from offramp.data.parquet.rows import Rows
from offramp.data.records import Encoded, Files, Stored, printable
from training.errors import DataError

if TYPE_CHECKING:
    import datasets


def identity(one: Encoded) -> bytes:
    """Return bytes that differ for another image: its own, or path, size and time of its file.

    Raises:
        OSError: The file cannot be found.
    """
    if isinstance(one.image, bytes):
        return one.image
    state = one.image.stat()
    path = os.path.abspath(one.image)  # noqa: PTH100 (a link can change)
    return json.dumps([path, state.st_size, state.st_mtime_ns]).encode()


class EncodedImages(Protocol):
    """Encoded images in a fixed order."""

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int]) -> Iterator[Encoded]:
        """Yield the images in these rows."""
        ...


@dataclass(frozen=True, slots=True)
class FileImages:
    """Image files on disk."""

    files: Files

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: Sequence[int]) -> Iterator[Encoded]:
        """See EncodedImages."""
        return (self.files[row] for row in rows)


@dataclass(frozen=True, slots=True)
class TableImages:
    """Rows of a table that `datasets` maps into memory.

    Attributes:
        table: Data set with a column of {"bytes", "path"}.
        column: Name of that column.
        rows: The parquet files that the rows are from, or `None`. Paths in cells are relative to
            them.
    """

    table: datasets.Dataset
    column: str
    rows: Rows | None = None

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Encoded]:
        return self.read(range(len(self)))

    def name(self, row: int) -> str:
        """Return the name of an image in error texts."""
        return self.rows.name(row) if self.rows else f"row {row}"

    def sample(self, number: int) -> Iterator[Encoded]:
        """Yield at most `number` images, spread over all."""
        some = min(number, len(self))
        return self.read([row * len(self) // some for row in range(some)])

    def read(self, rows: Sequence[int]) -> Iterator[Encoded]:
        """See EncodedImages."""
        for cell, row in zip(self.table[list(rows)][self.column], rows, strict=True):
            name = self.name(row)
            if cell is None or not (cell["bytes"] or cell["path"]):
                raise DataError(f"data: {name}: {self.column} is null or empty (rows from 0)")
            folder = self.rows.folder_of(row) if self.rows and not cell["bytes"] else Path()
            shown = name if self.rows else cell["path"] or name
            yield Encoded(shown, cell["bytes"] or folder / cell["path"])


def by_row(images: Stored, source: str) -> EncodedImages:
    """Return images that can be read by row.

    Raises:
        DataError: A parquet file cannot be loaded, or not all of it.
    """
    if isinstance(images, Files):
        return FileImages(images)
    if isinstance(images, TableImages):
        return images
    assert isinstance(images, Rows)
    return _mapped(images, source)


def _mapped(rows: Rows, source: str) -> TableImages:
    table = _loaded(rows, source)
    if len(table) != sum(rows.counts):
        raise DataError(
            f"data: {source} has {sum(rows.counts)} rows, and {len(table)} were loaded. Files "
            "changed while they were read, or this is a bug"
        )
    images = as_encoded(table, rows.column)
    used = images if rows.chosen is None else images.select(rows.chosen)
    return TableImages(used, rows.column, rows)


def _loaded(rows: Rows, source: str) -> datasets.Dataset:
    """Map the image column of parquet files into memory, whatever types the files declare."""
    import datasets  # takes a second, and images in files need it not

    # `datasets` reads no file without rows.
    used = [file for file, count in zip(rows.files, rows.counts, strict=True) if count]
    paths = [str(file.resolve()) for file in used]
    _check_paths(paths)
    versions = hashlib.sha256(json.dumps([_version(path) for path in paths]).encode())
    files = [glob.escape(path) for path in paths]
    try:
        return datasets.load_dataset(
            "parquet",
            name=f"version-{versions.hexdigest()[:16]}",
            data_files={"train": files},
            split="train",
            columns=[rows.column],
            features=datasets.Features({rows.column: _read_as(_form(rows, rows.files[0]))}),
        )
    except (DatasetError, OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        _check_readable(rows)
        raise DataError(f"data: {source} cannot be loaded: {error.__cause__ or error}") from error


def _read_as(form: str) -> datasets.Value | datasets.Image:
    """Return the type to read a column as: of some, `datasets` makes images only in two steps."""
    import datasets

    if form == "string_view":
        return datasets.Value("string")
    if form.startswith(("binary_view", "fixed_size_binary")):
        return datasets.Value("binary")
    return datasets.Image(decode=False)


def _form(rows: Rows, file: Path) -> str:
    with opened(file) as parquet:
        return str(parquet.schema_arrow.field(rows.column).type)


def _version(path: str) -> tuple[int, int]:
    """Return numbers that change with the content of a file, for the copies that `datasets` keeps.

    It compares only times of modification, which programs that copy and unpack files set.

    Raises:
        DataError: The file cannot be found.
    """
    try:
        state = Path(path).stat()
    except OSError as error:
        raise DataError(f"data: {printable(path)} cannot be read: {error.strerror}") from error
    return state.st_size, state.st_ctime_ns


def _check_paths(paths: Sequence[str]) -> None:
    """Check that `datasets` takes paths as they are: it has a meaning for `::` and for `$HOME`.

    Raises:
        DataError: It would look for another file.
    """
    for path in paths:
        if "::" in path or os.path.expandvars(path) != path:
            sign = "::" if "::" in path else "a variable such as $HOME"
            raise DataError(
                f"data: {printable(path)} has {sign} in its path, which the library datasets reads "
                "as another place. Rename the folder or the file"
            )


def _check_readable(rows: Rows) -> None:
    """Read all rows.

    Raises:
        DataError: A file is damaged, a cell has no image, or the column has a form that training
            does not read. The text names it.
    """
    try:
        deque(rows, maxlen=0)
        stated: dict[str, str] = {}
        for file in rows.files:
            form = _form(rows, file)
            stated.setdefault(repr(_read_as(form)), f"{form} in {printable(file)}")
            if form.startswith("dictionary"):
                raise DataError(
                    f"data: {printable(file)}: the image column {printable(rows.column)} is "
                    "dictionary-encoded, as a category of pandas is. Write its texts or bytes as "
                    "they are"
                )
        if len(stated) > 1:
            raise DataError(
                f"data: the image column {printable(rows.column)} is "
                f"{' and '.join(stated.values())}. Write all files with one type"
            )
    except DatasetError as error:
        raise DataError(f"data: {error}") from error


def as_encoded(table: datasets.Dataset, column: str) -> datasets.Dataset:
    """Return only the image column of a table, as {"bytes", "path"}."""
    import datasets

    return table.cast_column(column, datasets.Image(decode=False)).select_columns([column])
