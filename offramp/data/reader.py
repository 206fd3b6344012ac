"""Read a data set on disk, whatever its form, by the rules of `docs/data.md`."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from offramp.data.errors import DatasetError
from offramp.data.folders import read_class_folders
from offramp.data.formats import ARCHIVES, HEAD, IMAGE_FORMATS, PARQUET, format_of
from offramp.data.parquet.cells import has_columns
from offramp.data.parquet.read import read_parquet
from offramp.data.records import Found, LeftOut, listed, printable
from offramp.data.tables.read import read_table
from offramp.data.walk import Tree, read_tree

BESIDE = "is beside parquet files, which are the data set"


def read_dataset(source: str | Path) -> Found:
    """Read a data set: its classes, the images of each split, and what is left out.

    Images are not decoded. They are recognised by their first bytes.

    Args:
        source: A folder of class folders, or of splits of class folders. Or a CSV, JSON Lines or
            parquet file, or a folder of parquet files.

    Raises:
        DatasetError: The source does not exist, is ambiguous, or has no images with labels.
    """
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise DatasetError(f"there is no file or folder {printable(path)}") from error
    if stat.S_ISREG(mode):
        return _read_file(path)
    if not stat.S_ISDIR(mode):
        raise DatasetError(f"{printable(path)} is neither a file nor a folder")
    tree = read_tree(path)
    if (files := _parquet_files(tree)) and _are_the_data_set(files, tree, path):
        return _read_parquet_folder(tree, files, path)
    return read_class_folders(tree, str(path))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError as error:
        raise DatasetError(f"{printable(path)} cannot be opened: {error.strerror}") from error


def _read_file(path: Path) -> Found:
    head = _head(path)
    format_ = format_of(head)
    if format_ == PARQUET:
        return read_parquet([path], path)
    if format_ in ARCHIVES:
        raise DatasetError(
            f"{printable(path)} is a {format_} archive. Unpack it, and give the folder"
        )
    if format_ in IMAGE_FORMATS:
        raise DatasetError(f"{printable(path)} is one image. Give a folder of class folders")
    if not head.strip():
        raise DatasetError(f"{printable(path)} is empty")
    if _is_utf_16(head):
        raise DatasetError(f"{printable(path)} is text in UTF-16. Save it in UTF-8")
    if b"\0" in head:
        raise DatasetError(f"{printable(path)} is not a table (CSV, JSON Lines) or a parquet file")
    return read_table(path)


def _is_utf_16(head: bytes) -> bool:
    """Return whether the first bytes of a file are text in UTF-16 or UTF-32."""
    even, odd = head[::2], head[1::2]
    half_zero = len(head) > 1 and any(even) != any(odd)
    return head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or half_zero


def _parquet_files(tree: Tree) -> list[Path]:
    return [folder.path / name for folder in tree.root.each() for name in folder.parquet]


def _are_the_data_set(files: Sequence[Path], tree: Tree, path: Path) -> bool:
    """Return whether parquet files are the data set, and no class folders beside them.

    Raises:
        DatasetError: Both readings are possible.
    """
    if not tree.root.has_images:
        return True
    if not any(has_columns(file, labels=True) for file in files):
        return False
    if folders := tree.root.with_images:
        names = listed([each.name for each in folders])
        parquet = listed([str(file.relative_to(path)) for file in files])
        raise DatasetError(
            f"{printable(path)} can be read in two ways: as the parquet files {parquet}, or as "
            f"folders with the classes or splits {names}. If the parquet files are the data set, "
            "move the folders elsewhere, or give one file or a folder that has only parquet files. "
            "If the folders are, move the parquet files elsewhere"
        )
    return True


def _read_parquet_folder(tree: Tree, files: Sequence[Path], path: Path) -> Found:
    read = {str(file.relative_to(path)) for file in files}
    others = [each for folder in tree.root.each() for each in folder.others]
    beside = [
        *(LeftOut(name, BESIDE) for name in tree.root.images),
        *(LeftOut(each.name, BESIDE, each.files) for each in others if each.name not in read),
    ]
    if len(files) + sum(each.files for each in beside) != tree.found:
        raise DatasetError(f"{path}: files changed while they were read, or this is a bug")
    found = read_parquet(files, path, beside)
    return replace(found, hidden=tree.hidden)
