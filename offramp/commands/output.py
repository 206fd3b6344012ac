"""Destinations of the rows of `offramp classify`: standard output, or a file."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TextIO

from offramp.commands.rows import Row, columns_of, csv_writer, row_of, write_csv, write_parquet
from offramp.errors import OfframpError
from offramp.writing import check_folder, locked, writing

PARTIAL = ".partial"
WRITING = ".writing"
LONGEST_LINE = 1 << 20  # bytes of a row


class OutputError(OfframpError):
    """The output exists, is of another run, or cannot be written."""


class Output(ABC):
    """A destination of rows.

    Attributes:
        done: Names of the images that have a row already.
    """

    done: AbstractSet[str] = frozenset()

    @abstractmethod
    def write(self, row: Row) -> None:
        """Write a row."""

    def finish(self) -> None:  # noqa: B027 (only files have an end)
        """End the output after the last row."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the output. The rows stay."""
        self.close()

    def close(self) -> None:  # noqa: B027 (only files are closed)
        """Close what is open."""


class StandardOutput(Output):
    """CSV on a text stream, one row at a time. With `reject`, it has this column too."""

    def __init__(self, stream: TextIO, *, reject: bool = False) -> None:
        self._stream = stream
        self._writer = csv_writer(stream, columns_of(reject=reject))

    def write(self, row: Row) -> None:
        """Write a row, at once."""
        self._writer.writerow(row.columns)
        self._stream.flush()


def check_output(path: Path, *, overwrite: bool) -> None:
    """Check that a file of rows can be written, before images are read. Nothing is written.

    Raises:
        OutputError: The file exists, or pyarrow is missing.
        UnwritableFileError: Its folder does not exist, or must not be written to.
    """
    if path.suffix == ".parquet":
        _check_pyarrow()
    if path.is_dir() or (path.exists() and not overwrite):
        remedy = "choose another --out" if path.is_dir() else "--overwrite replaces it"
        raise OutputError(f"{path} exists; {remedy}")
    if not path.parent.exists():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first")
    check_folder(path.parent, "--out")


def check_same_run(place: Path, before: object, run: Mapping[str, Any]) -> None:
    """Check that rows are of a run with the same values, before a run continues them.

    Args:
        place: File or folder of the rows, for errors.
        before: The values that are stored with the rows.
        run: The model and the arguments of this run.

    Raises:
        OutputError: They are of another run, or of none.
    """
    if not isinstance(before, Mapping):
        raise OutputError(f"{place} has no rows of a run; remove it")
    if differs := [name for name in {**run, **before} if before.get(name) != run.get(name)]:
        raise OutputError(
            f"{place} is of a run with another {', '.join(differs)}; --overwrite starts again"
        )


def check_same_paths(out: Path, done: AbstractSet[str], paths: Sequence[Path]) -> None:
    """Check that rows are of images in these paths, before a run continues them.

    Raises:
        OutputError: The rows of one are not, so they are of a run with other paths.
    """
    from offramp.data.records import printable  # late: it imports numpy

    given = set(paths)
    for name in done:
        path = Path(name)
        file = path.with_name(path.name.rpartition("#")[0] or path.name)  # of a row in parquet
        if given.isdisjoint((path, file, *path.parents)):
            raise OutputError(
                f"{out.name}{PARTIAL} has a row of {printable(name)}, which is not in the paths of "
                "this command. Give the same paths, or another --out; --overwrite starts again"
            )


class FileOutput(Output):
    """A CSV, JSON lines or parquet file that exists only when it is complete.

    Until then the rows are lines of JSON in a file beside it, after a line that describes the run.

    Args:
        path: The file. Its suffix selects the format.
        run: The model and the arguments. A run continues only one with the same values.
        overwrite: Replace the file, and the rows of an interrupted run.
        reject: CSV and parquet files have the column `reject` too.

    Raises:
        OutputError: The file exists, the rows beside it are of another run, another process writes
            them, or pyarrow is missing.
    """

    def __init__(
        self, path: Path, run: Mapping[str, Any], *, overwrite: bool = False, reject: bool = False
    ) -> None:
        self._path = path
        self._columns = columns_of(reject=reject)
        self._partial = path.with_name(path.name + PARTIAL)
        check_output(path, overwrite=overwrite)
        busy = OutputError(f"{self._partial}: another run writes it; choose another --out")
        with writing(self._partial), ExitStack() as stack:
            stack.enter_context(locked(self._partial, busy))
            if overwrite:
                os.truncate(self._partial, 0)
            self.done = self._resume(run)
            self._lines = stack.enter_context(self._partial.open("a", encoding="utf-8"))
            if not self._partial.stat().st_size:
                self._lines.write(json.dumps({"run": run}) + "\n")
                self._lines.flush()
            self._open = stack.pop_all()

    def write(self, row: Row) -> None:
        """Write a row beside the file.

        Raises:
            UnwritableFileError: There is no room. The rows before stay.
        """
        with writing(self._partial):
            self._lines.write(row.line)

    def finish(self) -> None:
        """Turn the rows into the file, and remove them.

        Raises:
            UnwritableFileError: There is no room. The rows stay.
        """
        with writing(self._partial):
            self._lines.close()
        unfinished = self._path.with_name(self._path.name + WRITING)
        try:
            with writing(self._path):
                self._write(unfinished)
                os.replace(unfinished, self._path)  # noqa: PTH105 (one step, on every system)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._partial.unlink()
        self.close()

    def close(self) -> None:
        """Close the rows. They stay, for a run that continues this one.

        Raises:
            UnwritableFileError: There is no room for the last of them.
        """
        with writing(self._partial):
            self._open.close()

    def _write(self, path: Path) -> None:
        if self._path.suffix == ".parquet":
            write_parquet(path, self._rows(), self._columns)
        elif self._path.suffix == ".csv":
            write_csv(path, self._rows(), self._columns)
        else:
            with path.open("w", encoding="utf-8") as file:
                file.writelines(row.line for row in self._rows())

    def _resume(self, run: Mapping[str, Any]) -> set[str]:
        """Return the names that have a row."""
        self._cut_off_last_line()
        self._check(run)
        return {row.file for row in self._rows()}

    def _cut_off_last_line(self) -> None:
        """Remove a last line that was not completed."""
        with self._partial.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - LONGEST_LINE)
            file.seek(start)
            file.truncate(start + file.read().rfind(b"\n") + 1)

    def _check(self, run: Mapping[str, Any]) -> None:
        with self._partial.open(encoding="utf-8") as lines:
            first = lines.readline()
        try:
            before = json.loads(first)["run"] if first else run
        except (ValueError, KeyError, TypeError):
            before = None
        check_same_run(self._partial, before, run)

    def _rows(self) -> Iterator[Row]:
        with self._partial.open(encoding="utf-8") as lines:
            next(lines, None)
            for line in lines:
                try:
                    yield row_of(line)
                except ValueError as error:
                    raise OutputError(
                        f"{self._partial} is damaged; --overwrite starts again"
                    ) from error


def _check_pyarrow() -> None:
    if find_spec("pyarrow") is None:
        raise OutputError(
            "writing parquet files needs pyarrow; install it with: pip install 'offramp[parquet]'"
        )
