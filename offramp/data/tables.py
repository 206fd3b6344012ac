"""Tables with a file and a label in each row: CSV, or JSON Lines.

Paths are relative to the table. Spaces around a path or a label do not count.
A column `split`, if there is one, names the split of each row.
"""

from __future__ import annotations

import csv
import io
import json
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offramp.data.columns import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMN,
    choose_column,
    in_order,
    label_text,
    split_in,
)
from offramp.data.errors import DatasetError
from offramp.data.formats import HEAD, IMAGE_FORMATS, format_of, not_read
from offramp.data.records import Files, Found, LeftOut, Part, Split, printable
from offramp.data.same_files import SameFiles, identity_of

DELIMITERS = (",", ";", "\t")
Row = tuple[int, Mapping[str, object]]  # number of the line, counted from 1, and its cells


def read_table(source: Path) -> Found:
    """Read a CSV or JSON Lines file with the columns file and label.

    Raises:
        DatasetError: It has no such columns, a cell is not a file or a label, a file has two
            labels, or no row can be used.
    """
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            rows = _Rows(source)
            for number, cells in _rows(file.read(), source):
                rows.add(number, cells)
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{source} is not UTF-8: {error.reason} at byte {error.start}"
        ) from error
    except OSError as error:
        raise DatasetError(f"{source} cannot be read: {error.strerror or error}") from error
    return rows.found()


def _rows(text: str, source: Path) -> Iterator[Row]:
    if "\0" in text:
        raise DatasetError(f"{source} is neither a folder, a table (CSV, JSONL) nor a parquet file")
    if text.lstrip()[:1] == "[":
        raise DatasetError(f"{source} is a JSON list. Write one JSON object on each line")
    return _json_rows(text, source) if text.lstrip()[:1] == "{" else _csv_rows(text, source)


def _json_rows(text: str, source: Path) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DatasetError(f"{source}, line {number}: is not JSON ({error})") from error
            if not isinstance(cells, dict):
                raise DatasetError(f"{source}, line {number}: is not a JSON object")
            yield number, cells


def _csv_rows(text: str, source: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            if len(cells) <= 1 and not "".join(cells).strip():
                continue  # a line without text
            if not header:
                header = [cell.strip() for cell in cells]
                _check_header(header, source)
                continue
            if len(cells) != len(header):
                raise DatasetError(
                    f"{source}, line {reader.line_num}: has {len(cells)} cells, and the first "
                    f"line has {len(header)}"
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DatasetError(f"{source}, line {reader.line_num}: {error}") from error


def _delimiter(text: str) -> str:
    """Return the delimiter by which the first line has a file and a label column, or a comma."""
    first = text.strip().split("\n", 1)[0]
    for delimiter in DELIMITERS:
        names = {cell.strip().strip('"').casefold() for cell in first.split(delimiter)}
        if names & {*FILE_COLUMNS} and names & {*LABEL_COLUMNS}:
            return delimiter
    return ","


def _check_header(header: list[str], source: Path) -> None:
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DatasetError(f"{source} has two columns {printable(twice[0])}")
    _columns(header, str(source))


def _columns(names: list[str], where: str) -> tuple[str, str]:
    usual = {name.casefold(): name for name in names}
    file = choose_column(usual, FILE_COLUMNS, "file", where)
    return usual[file], usual[choose_column(usual, LABEL_COLUMNS, "label", where)]


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

    def add(self, number: int, cells: Mapping[str, object]) -> None:
        where = f"{self.source}, line {number}"
        self.count += 1
        file_column, label_column = _columns([str(name) for name in cells], where)
        label = label_text(cells[label_column], (), f"{where}: {label_column}").strip()
        name = cells[file_column]
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{where}: {file_column} is empty. Give the path of an image file")
        split, name = _split(cells, where), name.strip()
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


def _split(cells: Mapping[str, object], where: str) -> Split:
    value = next((cells[name] for name in cells if name.casefold() == SPLIT_COLUMN), "train")
    return split_in(value, where)


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
