"""A file of rows that are computed once, in order, and can be continued after an interruption.

Beside the file is its state, in JSON: the number of rows that are whole and on disk. What follows
them in the file was interrupted, and is cut off.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from offramp.writing import locked, write_text, writing
from training.errors import DataError, cache_in_use

Rows = NDArray[np.float16]
SPARE = 1 << 30  # bytes of the disk that stay free


@dataclass(frozen=True, slots=True)
class Store:
    """A file of rows float16 [rows, length].

    Attributes:
        path: The file. Its name tells what the rows are of.
        rows: Number of rows of the whole file.
        length: Number of values in a row.
    """

    path: Path
    rows: int
    length: int

    @property
    def bytes_of_row(self) -> int:
        """Number of bytes of a row."""
        return self.length * np.dtype(np.float16).itemsize

    @property
    def state(self) -> Path:
        """File of the state."""
        return self.path.with_suffix(".json")

    def done(self) -> int:
        """Return the number of rows that are whole and on disk."""
        try:
            done = json.loads(self.state.read_text(encoding="utf-8"))["rows"]
            size = self.path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError):
            return 0
        if not isinstance(done, int) or not 0 <= done <= self.rows:
            return 0
        return done if size >= done * self.bytes_of_row else 0

    def complete(self, compute: Callable[[int], Iterator[Rows]]) -> Rows:
        """Compute the rows that are missing, and return all of them, mapped into memory.

        Args:
            compute: Function that yields the rows from a number on, in pieces [n, length].

        Raises:
            DataError: Another run writes the file.
            UnwritableFileError: The file cannot be written. The rows so far stay.
        """
        if self.done() < self.rows:
            self._append(compute)
        with writing(self.path):
            return np.memmap(self.path, np.float16, mode="r", shape=(self.rows, self.length))

    def _append(self, compute: Callable[[int], Iterator[Rows]]) -> None:
        with locked(self.path, cache_in_use(self.path)) as file:
            done = self.done()
            with writing(self.path):
                file.truncate(done * self.bytes_of_row)
            for piece in compute(done) if done < self.rows else ():
                self._write(file, piece)
                done += len(piece)
                write_text(self.state, json.dumps({"rows": done}))
        assert done == self.rows

    def _write(self, file: BufferedWriter, piece: Rows) -> None:
        """Append rows [n, length], and wait until they are on disk."""
        assert piece.dtype == np.float16
        assert piece.shape[1:] == (self.length,)
        with writing(self.path):
            file.write(piece.tobytes())
            file.flush()
            os.fsync(file.fileno())


def check_room(stores: list[Store]) -> int:
    """Check that what is missing of files of one folder fits on its disk.

    Returns:
        The number of bytes of the whole files.

    Raises:
        DataError: It does not fit.
    """
    missing = sum((store.rows - store.done()) * store.bytes_of_row for store in stores)
    folder = stores[0].path.absolute().parent
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    if missing > free - SPARE:
        raise DataError(
            f"--cache: the features take {missing / 1e9:.1f} GB more, and {folder} has "
            f"{free / 1e9:.1f} GB free, of which 1 GB stays free; give another folder, or "
            "--cache-features false"
        )
    return sum(store.rows * store.bytes_of_row for store in stores)
