"""Rows of `offramp classify`, as lines of JSON and as tables in CSV and parquet."""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from offramp.errors import OfframpError

if TYPE_CHECKING:
    from offramp.answers import Answer
    from offramp.data.records import Encoded
    from offramp.inputs.images import ImageSource

Classify = Callable[[Iterator["ImageSource"]], Iterator["Answer | OfframpError"]]
COLUMNS: Mapping[str, str] = {  # of CSV and parquet, with their types in parquet
    "file": "string",
    "label": "string",
    "index": "int64",
    "probability": "float64",
    "confidence": "float64",
    "exit": "int64",
    "exits": "int64",
    "flops": "int64",
    "flops_share": "float64",
    "deadline_hit": "bool",
    "degraded": "bool",
    "error": "string",
}
REJECT = "reject"  # a further column, before the error, of a run with --reject
GROUP = 4096  # rows of a row group in parquet


@dataclass(frozen=True, slots=True)
class Row:
    """The row of one image: its answer, as JSON data, or the error."""

    file: str
    answer: dict[str, Any] | None
    error: str | None

    @property
    def columns(self) -> dict[str, Any]:
        """The values of COLUMNS and REJECT. Bytes of a name that are not UTF-8 are escaped."""
        answer = self.answer or {}
        values = {name: answer.get(name) for name in (*COLUMNS, REJECT)}
        return values | {"file": _printed(self.file), "error": self.error and _printed(self.error)}

    @property
    def line(self) -> str:
        """The row as a line of JSON, with all fields of the answer."""
        content = {"error": self.error} if self.answer is None else self.answer
        return json.dumps({"file": self.file, **content}) + "\n"


def answer_rows(images: Iterable[Encoded], classify: Classify) -> Iterator[Row]:
    """Classify images, and yield the row of each, in their order."""
    names: deque[str] = deque()

    def sources() -> Iterator[ImageSource]:
        for image in images:
            names.append(image.name)
            yield image.image

    for outcome in classify(sources()):
        if isinstance(outcome, OfframpError):
            yield Row(names.popleft(), None, str(outcome))
        else:
            answer = asdict(outcome)
            for name in ("reject", "promise", "operating_point"):
                if answer[name] is None:
                    del answer[name]
            yield Row(names.popleft(), answer, None)


def _printed(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def columns_of(*, reject: bool) -> dict[str, str]:
    """Return the columns of a run, with their types in parquet."""
    if not reject:
        return dict(COLUMNS)
    *others, error = COLUMNS.items()
    return dict([*others, (REJECT, "bool"), error])


def row_of(line: str) -> Row:
    """Read a row from its line.

    Raises:
        ValueError: This is no row.
    """
    content = json.loads(line)
    if not isinstance(content, dict) or "file" not in content:
        raise ValueError("not a row")
    file, error = content.pop("file"), content.get("error")
    return Row(file, None if "error" in content else content, error)


def csv_writer(file: TextIO, columns: Mapping[str, str]) -> csv.DictWriter[str]:
    """Write the header of a CSV file, and return the writer of its rows."""
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    return writer


def write_csv(path: Path, rows: Iterable[Row], columns: Mapping[str, str]) -> None:
    """Write rows as a CSV file."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv_writer(file, columns).writerows(row.columns for row in rows)


def write_parquet(path: Path, rows: Iterable[Row], columns: Mapping[str, str]) -> None:
    """Write rows as a parquet file. It needs pyarrow."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    remaining = iter(rows)
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    with ParquetWriter(path, schema) as writer:
        while group := [row.columns for row in islice(remaining, GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema))
