"""Parts of a long list of images, so that each can be read on its own, in any process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offramp.data.errors import DatasetError
from offramp.data.parquet.cells import cells, image_column, opened, path_or_bytes
from offramp.data.records import Encoded

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


@dataclass(frozen=True, slots=True)
class Piece:
    """An image file, or consecutive rows of a parquet file.

    Attributes:
        file: Its path.
        rows: Numbers of the rows, from 0. `None`: the file is an image.
    """

    file: Path
    rows: range | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return 1 if self.rows is None else len(self.rows)


def images_of(pieces: Iterable[Piece]) -> Iterator[Encoded]:
    """Yield the images of pieces, in order. A cell without an image gives no bytes.

    Raises:
        DatasetError: A parquet file is damaged, or has fewer rows.
    """
    for piece in pieces:
        if piece.rows is None:
            yield Encoded(str(piece.file), piece.file)
        else:
            yield from _rows(piece.file, piece.rows)


def parts_of(pieces: Iterable[Piece], size: int) -> Iterator[list[Piece]]:
    """Cut pieces into parts of `size` images, in order. Only the last part can have fewer."""
    part: list[Piece] = []
    room = size
    for piece in pieces:
        for cut in _cut(piece, room, size):
            part.append(cut)
            room -= len(cut)
            if room == 0:
                yield part
                part, room = [], size
    if part:
        yield part


def _cut(piece: Piece, room: int, size: int) -> Iterator[Piece]:
    """Yield a piece in slices: at most `room` images first, then at most `size`."""
    if piece.rows is None:
        yield piece
        return
    rest = piece.rows
    while rest:
        yield Piece(piece.file, rest[:room])
        rest, room = rest[room:], size


def _rows(file: Path, rows: range) -> Iterator[Encoded]:
    with opened(file) as parquet:
        column = image_column(parquet, file)
        found = _cells(parquet, column, rows, file)
        for number, cell in zip(rows, found, strict=True):
            image = path_or_bytes(cell)
            stored = file.parent / image if isinstance(image, str) else image
            usable = stored if isinstance(stored, Path | bytes) else b""
            yield Encoded(f"{file}#{number}", usable)


def _cells(parquet: ParquetFile, column: str, rows: range, file: Path) -> Iterator[Any]:
    """Yield the cells of a column in some rows.

    Raises:
        DatasetError: The file has fewer rows.
    """
    groups, first = _row_groups(parquet, rows)
    found = islice(cells(parquet, column, groups), rows.start - first, rows.stop - first)
    try:
        for _ in rows:
            yield next(found)
    except StopIteration:
        raise DatasetError(f"{file} has fewer rows than when it was listed") from None


def _row_groups(parquet: ParquetFile, rows: range) -> tuple[list[int], int]:
    """Return the row groups that have some of the rows, and the first row of the first of them."""
    groups: list[int] = []
    first, end = rows.start, 0
    for number in range(parquet.num_row_groups):
        start, end = end, end + parquet.metadata.row_group(number).num_rows
        if start < rows.stop and rows.start < end:
            first = first if groups else start
            groups.append(number)
    return groups, first
