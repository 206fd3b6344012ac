"""Images in the rows of parquet files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from offramp.data.parquet.cells import cells, image_in, opened
from offramp.data.records import Encoded


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
