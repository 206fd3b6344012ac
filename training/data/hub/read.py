"""Data sets on the Hugging Face hub, read through `datasets`."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import numpy as np

from offramp.data.columns import (
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    choose_column,
    label_text,
    order_classes,
)
from offramp.data.errors import DatasetError
from offramp.data.parquet.read import WITHHELD
from offramp.data.records import Found, LeftOut, Part, Split
from offramp.data.split_folders import split_named
from training.data.encoded import TableImages, as_encoded
from training.data.hub.names import hub_name
from training.errors import DataError


def load_from_hub(source: str) -> dict[str, datasets.Dataset]:
    """Load all splits of a data set on the hub.

    Raises:
        DataError: It cannot be loaded.
    """
    try:
        return dict(datasets.load_dataset(source))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{hub_name(source)}. From there it cannot be loaded: {error}") from error


def read_hub(source: str) -> Found:
    """Read the labels of a data set on the hub.

    Raises:
        DataError: It cannot be loaded.
        DatasetError: It lacks an image or label column, or a label is null, empty or a list.
    """
    tables, left_out = _tables(source)
    labels = {split: _labels(table, source) for split, table in tables.items()}
    found = {label for each in labels.values() for label in each}
    if not found:
        raise DatasetError(f"{source} has no split with labels")
    declared = list(dict.fromkeys(name for table in tables.values() for name in _names(table)))
    classes, without = order_classes(found, declared)
    left_out += [LeftOut(name, "is a class without images", files=0) for name in without]
    index = {label: number for number, label in enumerate(classes)}
    parts = {
        split: Part(
            _images(table, source), np.array([index[each] for each in labels[split]], np.int64)
        )
        for split, table in tables.items()
    }
    return Found(source, classes, parts, tuple(left_out), declared=tuple(declared))


def _tables(source: str) -> tuple[dict[Split, datasets.Dataset], list[LeftOut]]:
    """Load the splits that are read, and list those that are not."""
    tables: dict[Split, datasets.Dataset] = {}
    left_out = []
    for name, table in load_from_hub(source).items():
        split = split_named(name)
        if split is None or split in tables:
            left_out.append(LeftOut(name, "is a split that is not read", files=0))
        elif split == "test" and _withheld(table, source):
            left_out.append(LeftOut(name, "has no labels: they are withheld", files=0))
        else:
            tables[split] = table
    return tables, left_out


def _images(table: datasets.Dataset, source: str) -> TableImages:
    column = _column(table, "image", datasets.Image, IMAGE_COLUMNS, source)
    return TableImages(as_encoded(table, column), column)


def _labels(table: datasets.Dataset, source: str) -> list[str]:
    column = _label_column(table, source)
    names = _names(table, column)
    return [
        label_text(value, names, f"{source}, row {number}: {column}")
        for number, value in enumerate(table[column][:])
    ]


def _withheld(table: datasets.Dataset, source: str) -> bool:
    values = set(table[_label_column(table, source)][:])
    return bool(values) and values <= {None, WITHHELD}


def _label_column(table: datasets.Dataset, source: str) -> str:
    return _column(table, "label", datasets.ClassLabel, LABEL_COLUMNS, source)


def _names(table: datasets.Dataset, column: str | None = None) -> Sequence[str]:
    feature = table.features[column or _label_column(table, "")]
    return feature.names if isinstance(feature, datasets.ClassLabel) else ()


def _column(
    table: datasets.Dataset, kind: str, type_: type, usual: Sequence[str], source: str
) -> str:
    typed = [str(name) for name, each in table.features.items() if isinstance(each, type_)]
    return choose_column(list(table.features), usual, kind, source, typed)
