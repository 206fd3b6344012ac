"""Tables with a file and a label in each row: CSV, or JSON Lines.

Paths are relative to the table. Spaces around a path or a label do not count.
A column `split`, if there is one, names the split of each row.
"""

from __future__ import annotations

import stat
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offramp.data.columns import in_order, label_text, split_in, table_columns
from offramp.data.errors import DatasetError
from offramp.data.formats import HEAD, IMAGE_FORMATS, format_of, not_read
from offramp.data.records import Files, Found, LeftOut, Part, Split, listed, printable
from offramp.data.same_files import SameFiles, identity_of
from offramp.data.tables.text import rows_in

CONTROL = ("Cc", "Zl", "Zp")  # Unicode categories of control characters and line ends


def read_table(source: Path) -> Found:
    """Read a CSV or JSON Lines file with the columns file and label.

    Raises:
        DatasetError: It has no such columns, a cell is not a file or a label, a file has two
            labels, or no row can be used.
    """
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows = _Rows(source)
            for number, cells in rows_in(file.read(), source):
                rows.add(number, cells)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{source} is not UTF-8: {error.reason} at byte {error.start}"
        ) from error
    except OSError as error:
        raise DatasetError(f"{source} cannot be read: {error.strerror or error}") from error
    return rows.found()


class _Line(NamedTuple):
    """A line of a table, and the file that it names."""

    number: int
    name: str

    def __str__(self) -> str:
        return f"on line {self.number} ({printable(self.name)})"


@dataclass(slots=True)
class _Rows:
    """Rows that were read so far."""

    source: Path
    images: dict[Split, dict[str, str]] = field(default_factory=dict)  # label by path
    files: SameFiles = field(default_factory=SameFiles)
    left_out: list[LeftOut] = field(default_factory=list)
    formats: Counter[str] = field(default_factory=Counter)
    count: int = 0
    columns: dict[tuple[str, ...], int] = field(default_factory=dict)  # line that has them first

    def add(self, number: int, cells: Mapping[str, object]) -> None:
        where = f"{self.source}, line {number}"
        self.count += 1
        file_column, label_column, split_column = table_columns([*cells], where)
        self._check_columns(number, [file_column, label_column, split_column])
        label = label_text(cells[label_column], (), f"{where}: {label_column}").strip()
        name = cells[file_column]
        if not isinstance(name, str) or not name.strip():
            stated = "empty" if name is None or isinstance(name, str) else f"{name!r}, and no text"
            raise DatasetError(
                f"{where}: {file_column} is {stated}. Give the path of an image file"
            )
        name = name.strip()
        _check_printable({label_column: label, file_column: name}, where)
        split = "train" if split_column is None else split_in(cells[split_column], where)
        path = str(self.source.parent / name)
        format_, reason, identity = _examine(path)
        place = _Line(number, name)
        if format_ is None:
            self.left_out.append(LeftOut(f"{name} (line {number})", reason))
        elif self.files.add(identity, label, split, f"{where}: {name}", place):
            self.left_out.append(LeftOut(f"{name} (line {number})", "is listed twice"))
        else:
            self.images.setdefault(split, {})[path] = label
            self.formats[format_] += 1

    def _check_columns(self, number: int, columns: Sequence[str | None]) -> None:
        """Check that a row has the columns of the rows before it."""
        used = tuple(name.casefold() for name in columns if name is not None)
        self.columns.setdefault(used, number)
        if len(self.columns) > 1:
            before, first = next(iter(self.columns.items()))
            raise DatasetError(
                f"{self.source}, line {number}: has the columns {listed(used)}, and line {first} "
                f"has {listed(before)}. Give each row the same"
            )

    def found(self) -> Found:
        if not self.images:
            named = f". {self.left_out[0]}" if self.left_out else ""
            raise DatasetError(f"{self.source} lists no image that can be read{named}")
        labels = in_order({label for images in self.images.values() for label in images.values()})
        index = {label: number for number, label in enumerate(labels)}
        root = str(self.source.parent)
        parts = {
            split: Part(
                Files(images, root), np.array([index[each] for each in images.values()], np.int64)
            )
            for split, images in self.images.items()
        }
        found = Found(str(self.source), labels, parts, tuple(self.left_out), formats=self.formats)
        if sum(len(part.images) for part in parts.values()) + len(self.left_out) != self.count:
            raise DatasetError(f"{self.source}: rows were lost while reading. This is a bug")
        return found


def _check_printable(cells: Mapping[str, str], where: str) -> None:
    for column, text in cells.items():
        if any(unicodedata.category(char) in CONTROL for char in text):
            raise DatasetError(
                f"{where}: {column} is {printable(text)}, which has a control character or a line "
                "end. Remove it"
            )


def _examine(path: str) -> tuple[str | None, str, int]:
    """Return the format of an image file or the reason to leave it out, and its identity."""
    try:
        info = Path(path).stat()
        if not stat.S_ISREG(info.st_mode):
            return None, "is not a regular file", 0
        with Path(path).open("rb", buffering=0) as file:
            format_ = format_of(file.read(HEAD))
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        return None, f"cannot be opened: {getattr(error, 'strerror', None) or error}", 0
    if format_ not in IMAGE_FORMATS:
        return None, "is not an image in a format that is read", 0
    reason = not_read(format_)
    return (None, reason, 0) if reason else (format_, "", identity_of(info))
