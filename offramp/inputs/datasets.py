"""Image files in folders and parquet files, with or without labels. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from offramp.data.errors import DatasetError
from offramp.data.formats import HEAD, PARQUET, format_of
from offramp.data.parquet.cells import image_column, opened
from offramp.data.parquet.shards import distinct
from offramp.data.reader import read_dataset
from offramp.data.records import Encoded, LeftOut, Part, Split, listed, other_spelling, strict_error
from offramp.data.walk import read_tree
from offramp.inputs.parts import Piece, images_of

EVALUATED: tuple[Split, ...] = ("test", "validation", "train")  # the first that there is


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled image file.

    Attributes:
        name: Name of the file.
        image: Its path or its bytes.
        label: Index of its class.
    """

    name: str
    image: Path | bytes
    label: int


class ImageItems:
    """Image files and rows of parquet files, in a fixed order.

    Args:
        files: Their paths, each once.
        parquet: The parquet files among them.
        left_out: Files in folders that are not images, with reasons.
        hidden: Number of hidden files.

    Attributes:
        pieces: The image files, and all rows of each parquet file.
    """

    def __init__(
        self,
        files: Iterable[Path],
        parquet: Iterable[Path] = (),
        left_out: Sequence[LeftOut] = (),
        hidden: int = 0,
    ) -> None:
        tables = frozenset(parquet)
        self.pieces = tuple(
            Piece(file, range(_row_count(file)) if file in tables else None)
            for file in dict.fromkeys(files)
        )
        self.left_out = tuple(left_out)
        self.hidden = hidden

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def __iter__(self) -> Iterator[Encoded]:
        return images_of(self.pieces)

    def without_second_names(self, folder: Path) -> ImageItems:
        """Return the images in a folder without second names of a file, by links."""
        files, second = distinct([each.file for each in self.pieces], folder, by_split=False)
        tables = [each.file for each in self.pieces if each.rows is not None]
        return ImageItems(files, tables, (*self.left_out, *second), self.hidden)


@dataclass(frozen=True, slots=True)
class Examples:
    """The labelled images of one split of a data set.

    Attributes:
        part: The images.
        split: The split.
        labels: Index of the model's label for each class of the data set.
        left_out: What is not part of the data set, with reasons.
        hidden: Number of hidden files.
    """

    part: Part
    split: Split
    labels: Sequence[int]
    left_out: tuple[LeftOut, ...]
    hidden: int

    def __iter__(self) -> Iterator[Example]:
        for encoded, target in zip(self.part.images, self.part.targets.tolist(), strict=True):
            yield Example(encoded.name, encoded.image, self.labels[target])


def find_images(paths: Iterable[Path], *, strict: bool = False) -> ImageItems:
    """Find image files, the images in folders, and those in parquet files.

    Args:
        paths: Files are taken whatever they are. Folders are searched at all depths, and images
            are recognised by their first bytes.
        strict: Refuse folders in which a file is left out.

    Raises:
        DatasetError: A path does not exist, a folder has no image, or a parquet file no image
            column. Or `strict`, and a file is left out.
    """
    found: list[Path] = []
    parquet: list[Path] = []
    left_out: list[LeftOut] = []
    hidden = 0
    for path in paths:
        if path.is_dir():
            images, tables, others, ignored = _in_folder(path)
            found += [*images, *tables]
            parquet += tables
            left_out += others
            hidden += ignored
        elif path.exists():
            found.append(path)
            if path.is_file() and _is_parquet(path):
                parquet.append(path)
        else:
            raise DatasetError(f"{path}: there is no such file or folder")
    if strict and left_out:
        raise strict_error(", ".join(map(str, paths)), left_out)
    return ImageItems(found, parquet, left_out, hidden)


def read_examples(source: Path, labels: Sequence[str], *, strict: bool = False) -> Examples:
    """Read a data set, and return its labelled images.

    Args:
        source: See `offramp.data.reader.read_dataset`. Of several splits the test split is read,
            or else the validation split.
        labels: Labels of the model.
        strict: Refuse a data set in which a file is left out.

    Raises:
        DatasetError: No images, no labels, or a label that the model does not have. Or `strict`,
            and a file is left out.
    """
    found = read_dataset(source)
    if strict:
        found.check_strict()
    split = next(name for name in EVALUATED if name in found.parts)
    part = found.parts[split]
    _check_labels(part, found.classes, labels)
    index = {label: number for number, label in enumerate(labels)}
    numbers = [index.get(label, -1) for label in found.classes]
    return Examples(part, split, numbers, found.left_out, found.hidden)


def _check_labels(part: Part, classes: Sequence[str], labels: Sequence[str]) -> None:
    """Check that the model has the label of every image."""
    known = set(labels)
    for target in np.unique(part.targets):
        if classes[target] not in known:
            first = part.images.name(int(np.argmax(part.targets == target)))
            raise DatasetError(
                f"{first}: the model has no label {classes[target]!r}; its labels are "
                f"{listed(labels)}{other_spelling(classes[target], labels)}"
            )


def _in_folder(folder: Path) -> tuple[list[Path], list[Path], list[LeftOut], int]:
    """Return image files, parquet files, what is left out, and how many files are hidden."""
    tree = read_tree(folder)
    images = [Path(path) for path in tree.root.image_paths()]
    tables = [each.path / name for each in tree.root.each() for name in each.parquet]
    beside = [table for table in tables if images and not _has_images(table)]
    left_out = [
        LeftOut(str(folder / other.name), other.reason, other.files)
        for each in tree.root.each()
        for other in each.others
        if folder / other.name not in tables
    ]
    left_out += [
        LeftOut(str(table), "is a parquet file without an image column") for table in beside
    ]
    tables = [table for table in tables if table not in beside]
    if not images and not tables:
        reason = f". {left_out[0]}" if left_out else ""
        raise DatasetError(f"{folder}: this folder has no image and no parquet file{reason}")
    return images, tables, left_out, tree.hidden


def _has_images(table: Path) -> bool:
    """Return whether a parquet file has an image column.

    Raises:
        DatasetError: It cannot be read.
    """
    with opened(table) as parquet:
        try:
            image_column(parquet, table)
        except DatasetError:
            return False
    return True


def _is_parquet(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return format_of(file.read(HEAD)) == PARQUET
    except OSError:
        return False  # the image gets a row with the reason


def _row_count(file: Path) -> int:
    with opened(file) as parquet:
        image_column(parquet, file)
        return int(parquet.metadata.num_rows)
