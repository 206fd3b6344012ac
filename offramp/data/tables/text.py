"""The rows of a table's text: CSV, or JSON Lines."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from offramp.data.columns import FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMN, table_columns
from offramp.data.errors import DatasetError
from offramp.data.records import printable

DELIMITERS = (",", ";", "\t")
LINE_END = re.compile(r"\r\n|\n|\r")
READ = (*FILE_COLUMNS, *LABEL_COLUMNS, SPLIT_COLUMN)
Row = tuple[int, Mapping[str, object]]  # number of the line, counted from 1, and its cells


def rows_in(text: str, source: Path) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        text: The whole table.
        source: Its path, for the errors.

    Raises:
        DatasetError: The text is no table, or a row is damaged or can be read in two ways.
    """
    if "\0" in text:
        raise DatasetError(f"{source} is neither a folder, a table (CSV, JSONL) nor a parquet file")
    if text.lstrip()[:1] == "[":
        raise DatasetError(f"{source} is a JSON list. Write one JSON object on each line")
    return _json_rows(text, source) if text.lstrip()[:1] == "{" else _csv_rows(text, source)


def _json_rows(text: str, source: Path) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if line.strip():
            yield number, _json_row(line, f"{source}, line {number}")


class _Pairs(dict[str, object]):
    """A JSON object that keeps its keys as they were given."""

    keys_given: Sequence[str] = ()


def _pairs(pairs: Sequence[tuple[str, object]]) -> _Pairs:
    made = _Pairs(pairs)
    made.keys_given = [name for name, _ in pairs]
    return made


def _json_row(line: str, where: str) -> Mapping[str, object]:
    try:
        cells = json.loads(line, object_pairs_hook=_pairs)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: is not JSON ({error})") from error
    if not isinstance(cells, _Pairs):
        raise DatasetError(f"{where}: is not a JSON object")
    if twice := [name for name, count in Counter(cells.keys_given).items() if count > 1]:
        raise DatasetError(f"{where}: has two values of {printable(twice[0])}. Keep one of them")
    return cells


def _csv_rows(text: str, source: Path) -> Iterator[Row]:
    file = io.StringIO(text, newline="")
    delimiter, skipped = _delimiter(file, source)
    # A space between a delimiter and a quotation mark is no part of the cell.
    reader = csv.reader(file, delimiter=delimiter, strict=True, skipinitialspace=True)
    header: list[str] = []
    start = skipped  # lines before the row
    try:
        for cells in reader:
            number, start = start + 1, reader.line_num + skipped
            if len(cells) <= 1 and not "".join(cells).strip():
                continue  # a line without text
            where = f"{source}, line {number}"
            if not header:
                header = [cell.strip() for cell in cells]
                _check_names(header, source)
            elif len(cells) != len(header):
                raise DatasetError(
                    f"{where}: has {len(cells)} cells, and the first line has {len(header)}"
                )
            else:
                _check_cells(header, cells, delimiter, where)
                yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise DatasetError(
            f"{source}, line {start + 1}: {error}. Check the quotation marks in the row that "
            "begins there"
        ) from error
    if not header:
        raise DatasetError(f"{source} has no first line with the names of columns")


def _check_names(header: Sequence[str], source: Path) -> None:
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        alike = f"two columns {printable(twice[0])}. Keep one of them"
        unnamed = f"{header.count('')} columns without a name. Name them, or remove them"
        raise DatasetError(f"{source} has {alike if twice[0] else unnamed}")
    table_columns(header, str(source))


def _check_cells(header: Sequence[str], cells: Sequence[str], delimiter: str, where: str) -> None:
    """Check that no cell has taken whole rows, by a quotation mark that is not closed.

    Other columns can have line ends, such as captions. They have no line that is a row.
    """
    for name, cell in zip(header, cells, strict=True):
        lines = LINE_END.split(cell.strip())
        read = name.casefold() in READ
        if len(lines) > 1 and (read or any(_is_row(line, header, delimiter) for line in lines[1:])):
            raise DatasetError(
                f"{where}: {printable(name)} goes on in the next line. Close its quotation mark, "
                "or remove the line ends from the column"
            )


def _is_row(line: str, header: Sequence[str], delimiter: str) -> bool:
    """Return whether a line has as many cells as the header."""
    return line.count(delimiter) + 1 == len(header)


def _delimiter(file: io.StringIO, source: Path) -> tuple[str, int]:
    """Return the delimiter of a table, and the number of lines before it that are read.

    It is that in a first line `sep=;` of Excel, or the one by which the first line with text has a
    file and a label column, or else a comma.
    """
    first = file.readline()
    if first.strip().strip('"').casefold().startswith("sep="):
        delimiter = first.strip(' \r\n"')[len("sep=") :]
        if delimiter not in DELIMITERS:
            raise DatasetError(
                f"{source}, line 1: the delimiter is {printable(delimiter) or 'missing'}. Use a "
                "comma, a semicolon or a tab"
            )
        return delimiter, 1
    while first and not first.strip():
        first = file.readline()
    file.seek(0)
    for delimiter in DELIMITERS:
        names = {cell.strip().strip('"').casefold() for cell in first.split(delimiter)}
        if names & {*FILE_COLUMNS} and names & {*LABEL_COLUMNS}:
            return delimiter, 0
    return ",", 0
