"""Columns of tables and parquet files, and the labels in their cells."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from decimal import Decimal

from offramp.data.errors import DatasetError
from offramp.data.records import Split, listed, printable
from offramp.data.split_folders import SPLITS, split_named

FILE_COLUMNS = ("file", "file_name", "filename", "filepath", "file_path", "path", "image")
IMAGE_COLUMNS = ("image", "img", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")
SPLIT_COLUMN = "split"


def choose_column(
    columns: Collection[str], usual: Sequence[str], kind: str, where: str, typed: Sequence[str] = ()
) -> str:
    """Return the column of a kind: the one of that type, or else of a usual name.

    Args:
        columns: All columns of the table.
        usual: Usual names. Of several columns of the type, the first usual name is taken.
        kind: Kind of column, for the error: image, label or file.
        where: Name of the table, for the error.
        typed: Columns with that type, where the table states types.

    Raises:
        DatasetError: The column is missing, or several columns are possible.
    """
    candidates = list(typed) or [name for name in usual if name in columns]
    if len(candidates) > 1:
        candidates = [name for name in usual if name in typed][:1] or candidates
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise DatasetError(
            f"{where} has the {kind} columns {', '.join(map(printable, candidates))}. Keep one of "
            f"them, or name it {usual[0]}"
        )
    raise DatasetError(
        f"{where} has no {kind} column, only {', '.join(map(printable, columns)) or 'no column'}. "
        f"Name it {usual[0]}"
    )


def check_alike(columns: Sequence[str], name: str, where: str) -> None:
    """Check that no two columns have a name, in any case.

    Raises:
        DatasetError: Two have.
    """
    alike = [each for each in columns if each.casefold() == name.casefold()]
    if len(alike) > 1:
        raise DatasetError(
            f"{where} has the columns {' and '.join(map(printable, alike))}. Keep one of them"
        )


def table_columns(names: Sequence[str], where: str) -> tuple[str, str, str | None]:
    """Return the columns of files, of labels and of splits. Their names are read in any case.

    Raises:
        DatasetError: There is no file or label column, or several columns are possible.
    """
    usual = {name.casefold(): name for name in names}
    file = usual[choose_column(usual, FILE_COLUMNS, "file", where)]
    label = usual[choose_column(usual, LABEL_COLUMNS, "label", where)]
    split = usual.get(SPLIT_COLUMN)
    for name in (file, label, SPLIT_COLUMN):
        check_alike(names, name, where)
    return file, label, split


def _named(value: int, names: Sequence[str], where: str) -> str:
    if not 0 <= value < len(names):
        raise DatasetError(f"{where} is {value}, and the classes are 0 to {len(names) - 1}")
    return names[value]


def label_text(value: object, names: Sequence[str], where: str) -> str:
    """Return the label in a cell.

    Args:
        value: The cell. A number is a position in `names`, if there are names.
        names: Names of the classes, or nothing.
        where: Row and column of the cell, for the error.

    Raises:
        DatasetError: The cell is null, empty, a list, no UTF-8, or no position in `names`.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise DatasetError(f"{where} is null. Give each image a label")
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of numbers with a null somewhere becomes one of floats
    if names and isinstance(value, int):
        value = _named(value, names, where)
    if isinstance(value, list | tuple | dict):
        raise DatasetError(f"{where} is a list. Give each image one label")
    if not isinstance(value, str | int):
        raise DatasetError(f"{where} is {value!r}, which is neither a text nor a whole number")
    if value == "" or str(value).isspace():
        raise DatasetError(f"{where} is empty. Give each image a label")
    return _utf8(str(value), where)


def _utf8(text: str, where: str) -> str:
    """Return the text, which goes into files in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DatasetError(f"{where} is {text!r}, which is not UTF-8") from error
    return text


def split_in(value: object, where: str) -> Split:
    """Return the split that a cell states, without regard to case and to spaces around it.

    Raises:
        DatasetError: The cell states no split. `where` names its row in the error.
    """
    split = split_named(value.strip()) if isinstance(value, str) else None
    if split is None:
        raise DatasetError(f"{where}: split is {value!r}, and it can be {listed([*SPLITS])}")
    return split


def order_classes(
    found: Collection[str], declared: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Return the classes that have images in order, and the declared classes without images.

    Args:
        found: Labels of images.
        declared: Classes that a file declares, in its order, or nothing.
    """
    present = [name for name in declared if name in found]
    rest = set(found).difference(declared)
    return (*present, *in_order(rest)), [name for name in declared if name not in found]


def are_whole_numbers(labels: Collection[str]) -> bool:
    """Return whether all labels are whole numbers."""
    return all(label.removeprefix("-").isdecimal() for label in labels)


def in_order(labels: Collection[str]) -> tuple[str, ...]:
    """Return labels in order: by value where all are whole numbers, or else by text."""
    if are_whole_numbers(labels):
        return tuple(sorted(labels, key=lambda label: (Decimal(label), label)))
    return tuple(sorted(labels))
