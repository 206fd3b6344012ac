"""Images without labels: all images in a folder at any depth, or all rows of parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from offramp.data.errors import DatasetError
from offramp.data.formats import HEAD, PARQUET, format_of
from offramp.data.parquet.cells import has_columns, image_column, opened
from offramp.data.parquet.read import WITHHELD
from offramp.data.parquet.rows import Rows
from offramp.data.parquet.shards import check_complete, distinct
from offramp.data.records import Files, Found, LeftOut, Part, Stored, printable
from offramp.data.walk import Tree, read_tree


def read_unlabelled(source: str | Path) -> Found:
    """Read images, whatever their labels are.

    Args:
        source: A folder. Its images at all depths are read, or if there are none, its parquet
            files. Or a parquet file.

    Returns:
        A data set without classes. All images are in the training split, with the label WITHHELD.

    Raises:
        DatasetError: The source does not exist, is something else, or has no images.
    """
    path = Path(source)
    if path.is_dir():
        return _in_folder(read_tree(path), path)
    if not path.is_file():
        raise DatasetError(f"there is no file or folder {printable(path)}")
    with path.open("rb") as file:
        if format_of(file.read(HEAD)) != PARQUET:
            raise DatasetError(
                f"{printable(path)} is not a parquet file. Images without labels are read from a "
                "folder or from parquet files"
            )
    return _found(_rows([path]), path)


def _in_folder(tree: Tree, path: Path) -> Found:
    folders = list(tree.root.each())
    images = list(tree.root.image_paths())
    tables = [folder.path / name for folder in folders for name in folder.parquet]
    used = set() if images else {str(table.relative_to(path)) for table in tables}
    left_out = [each for folder in folders for each in folder.others if each.name not in used]
    if not images and not tables:
        reason = f". Left out: {left_out[0]}" if left_out else ""
        raise DatasetError(f"{printable(path)} has no images{reason}")
    if images:
        if both := [table for table in tables if has_columns(table, labels=False)]:
            raise DatasetError(
                f"{printable(path)} can be read in two ways: as {len(images):,} image files, or as "
                f"parquet files with images ({printable(both[0])}). Move one kind elsewhere"
            )
        if tree.shared:
            files, second = distinct(map(Path, images), path, by_split=False)
            images, left_out = [*map(str, files)], [*left_out, *second]
        return _found(Files(images, str(path)), path, tuple(left_out), tree)
    check_complete(tables)
    tables, second = distinct(tables, path, by_split=False)
    return _found(_rows(tables), path, (*left_out, *second), tree)


def _rows(files: list[Path]) -> Rows:
    columns, counts = set[str](), list[int]()
    for file in files:
        with opened(file) as parquet:
            columns.add(image_column(parquet, file))
            counts.append(int(parquet.metadata.num_rows))
    if len(columns) > 1:
        raise DatasetError(
            f"{printable(files[0].parent)}: files have the image columns "
            f"{', '.join(sorted(columns))}. Name them alike"
        )
    return Rows(tuple(files), tuple(counts), columns.pop())


def _found(
    stored: Stored, path: Path, left_out: tuple[LeftOut, ...] = (), tree: Tree | None = None
) -> Found:
    part = Part(stored, np.full(len(stored), WITHHELD, dtype=np.int64))
    if tree is None:
        return Found(str(path), (), {"train": part}, left_out)
    formats = {} if isinstance(stored, Rows) else tree.formats
    return Found(str(path), (), {"train": part}, left_out, tree.hidden, formats)
