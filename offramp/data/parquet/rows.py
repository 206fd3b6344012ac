"""Images in the rows of parquet files."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, compress, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offramp.data.parquet.cells import cells, image_in, opened
from offramp.data.records import Encoded


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Images in the rows of parquet files, in order.

    Attributes:
        files: Paths of the files.
        counts: Number of rows of each file.
        column: Name of the image column.
        chosen: Numbers of the rows that are used, ascending, int64 [N]. They count from 0 over all
            files. `None`: all rows.
    """

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    column: str
    chosen: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return sum(self.counts) if self.chosen is None else len(self.chosen)

    def __iter__(self) -> Iterator[Encoded]:
        images = chain.from_iterable(map(self._in_file, self.files))
        if self.chosen is None:
            return images
        used = np.zeros(sum(self.counts), dtype=bool)
        used[self.chosen] = True
        return compress(images, used)

    def sample(self, number: int) -> Iterator[Encoded]:
        """Yield the first images, at most `number`."""
        return islice(self, number)

    def name(self, row: int) -> str:
        """Return the name of an image."""
        file, number = self._place(row)
        return f"{file}#{number}"

    def folder_of(self, row: int) -> Path:
        """Return the folder of the file that a row is in."""
        return self._place(row)[0].parent

    def _in_file(self, file: Path) -> Iterator[Encoded]:
        with opened(file) as parquet:
            for number, cell in enumerate(cells(parquet, self.column)):
                yield Encoded(f"{file}#{number}", image_in(cell, file, number, self.column))

    def _place(self, row: int) -> tuple[Path, int]:
        """Return the file of an image, and its row there."""
        row = row if self.chosen is None else int(self.chosen[row])
        file = bisect_right([*accumulate(self.counts)], row)
        return self.files[file], row - sum(self.counts[:file])
