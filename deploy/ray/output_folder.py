"""The folder that a batch run writes: one parquet file for each part, complete or absent.

    part-000000.parquet  the rows of the first part, and so on
    _run.json            model and options of the run, and the number of its images
    _images.parquet      the images of the run: a row group for each part
    _SUCCESS             exists when all parts do

Readers of data sets skip names that begin with `_` or `.`. The list of images is made once. A run
that continues another reads it, so images that come later are not part of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile, ParquetWriter

from offramp.commands.output import OutputError, check_same_run
from offramp.commands.rows import Row, write_parquet
from offramp.inputs.datasets import ImageItems
from offramp.inputs.parts import Piece, parts_of
from offramp.writing import check_folder, replaced, write_text, writing

RUN, IMAGES, SUCCESS = "_run.json", "_images.parquet", "_SUCCESS"
PIECES = pa.schema([("file", pa.binary()), ("first", pa.int64()), ("end", pa.int64())])


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a run.

    Attributes:
        images: Number of images.
        part_images: Number of images of each part but the last.
    """

    images: int
    part_images: int

    @property
    def parts(self) -> range:
        """Return the numbers of the parts, from 0."""
        return range(-(-self.images // self.part_images))

    def size(self, part: int) -> int:
        """Return the number of images of a part."""
        return min(self.part_images, self.images - part * self.part_images)


class OutputFolder:
    """The files of a run.

    Several processes can write the same part at the same time. One of them gives the file.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(
        self, run: Mapping[str, Any], part_images: int, find: Callable[[], ImageItems]
    ) -> Plan:
        """Make the folder with the list of images, or continue the run that is in it.

        Args:
            run: The model and the options, as JSON data.
            part_images: Number of images of each part.
            find: Lists the images. It is called for a new run only.

        Raises:
            OutputError: The folder is of another run, or has files of none.
            UnwritableFileError: It cannot be written.
        """
        stored = self.path / RUN
        if stored.exists():
            content = _read_json(stored)
            check_same_run(self.path, content.get("run"), run)
            return Plan(content["images"], content["part_images"])
        self._check_empty()
        images = find()
        plan = Plan(len(images), part_images)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        self._write_list(images, plan)
        content = {"run": run, "images": plan.images, "part_images": plan.part_images}
        write_text(stored, json.dumps(content))
        return plan

    def _check_empty(self) -> None:
        """Check that the folder can be made or has no files."""
        check_folder(self.path, "--out")
        if self.path.exists() and any(file.name[0] not in "._" for file in self.path.iterdir()):
            raise OutputError(f"{self.path} has files of no run; choose another --out")

    def remove(self) -> None:
        """Remove the files of a run, whatever its options.

        Raises:
            UnwritableFileError: One cannot be removed.
        """
        if not (self.path / RUN).exists():
            return
        with writing(self.path):
            (self.path / SUCCESS).unlink(missing_ok=True)
            for file in [*self.path.glob("part-*.parquet"), *self._unfinished()]:
                file.unlink(missing_ok=True)
            for name in (RUN, IMAGES):
                (self.path / name).unlink(missing_ok=True)

    def missing(self, plan: Plan) -> list[int]:
        """Return the parts that have no rows yet, in order."""
        there = {entry.name for entry in os.scandir(self.path)}
        return [part for part in plan.parts if self.file(part).name not in there]

    def file(self, part: int) -> Path:
        """Return the path of the rows of a part."""
        return self.path / f"part-{part:06}.parquet"

    def pieces(self, part: int) -> list[Piece]:
        """Return the images of a part, as `parts_of` cuts them."""
        with ParquetFile(self.path / IMAGES) as images:
            columns = images.read_row_group(part).to_pydict()
        return [
            Piece(Path(os.fsdecode(file)), None if first is None else range(first, end))
            for file, first, end in zip(*columns.values(), strict=True)
        ]

    def write(self, part: int, rows: Iterable[Row], columns: Mapping[str, str]) -> None:
        """Write the rows of a part. The file is there when all of them are on the disk.

        Raises:
            UnwritableFileError: There is no room.
        """
        with replaced(self.file(part), durable=True, concurrent=True) as partial:
            write_parquet(partial, rows, columns)

    def finish(self) -> None:
        """Mark the run as complete, and remove what processes that were killed left behind.

        Raises:
            UnwritableFileError: The mark cannot be written.
        """
        write_text(self.path / SUCCESS, "")
        with writing(self.path):
            for file in self._unfinished():
                file.unlink(missing_ok=True)

    def _unfinished(self) -> list[Path]:
        return list(self.path.glob(".part-*"))

    def _write_list(self, images: ImageItems, plan: Plan) -> None:
        with (
            replaced(self.path / IMAGES, durable=True) as partial,
            ParquetWriter(partial, PIECES) as writer,
        ):
            for pieces in parts_of(images.pieces, plan.part_images):
                writer.write_table(pa.Table.from_pylist(list(map(_line, pieces)), PIECES))


def _line(piece: Piece) -> dict[str, Any]:
    first, end = (piece.rows.start, piece.rows.stop) if piece.rows is not None else (None, None)
    return {"file": os.fsencode(piece.file), "first": first, "end": end}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise OutputError(f"{path} is damaged; --overwrite starts again")
    return content
