"""Data sets: a training and a held-out set from a hub name, parquet files or a folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import datasets
import torch

from training.data.images import File, ImageFiles, Images
from training.errors import DataError

HASHED = 5000  # most held-out images in the fingerprint
Held = TypeVar("Held", Images, ImageFiles)
SPLIT_WORDS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass(frozen=True, slots=True)
class Dataset(Generic[Held]):
    """The images of a run; `held_out` is never trained on."""

    train: Held
    held_out: Held
    labels: tuple[str, ...]

    def decoded(self) -> Dataset[Images]:
        """Decode all images into memory."""
        return Dataset(self.train.decoded(), self.held_out.decoded(), self.labels)

    def fingerprint(self) -> str:
        """Hash the labels, the first 5,000 held-out images and the number of training images.

        The hash changes with the split, the order of labels and the images, so it shows whether
        the same images are held out. It is the same for images in memory and on disk.
        """
        digest = hashlib.sha256(json.dumps([self.labels, len(self.train)]).encode())
        first = self.held_out.select(torch.arange(min(HASHED, len(self.held_out)))).decoded()
        digest.update(first.pixels.numpy().tobytes())
        digest.update(self.held_out.targets.numpy().tobytes())
        return digest.hexdigest()


def load_dataset(source: str, size: int, held_out: int, seed: int) -> Dataset[Images]:
    """Open a data set as `open_dataset` does, and decode all images into memory."""
    return open_dataset(source, size, held_out, seed).decoded()


def open_dataset(source: str, size: int, held_out: int, seed: int) -> Dataset[ImageFiles]:
    """Open a data set and set its validation split apart.

    Args:
        source: a folder of parquet files (`train-*.parquet`, `test-*.parquet`, or in folders
            of these names), one parquet file, a folder with one folder of images for each
            class (or `train/` and `test/` with such folders), or a name on the Hugging Face hub.
        size: height and width of the decoded images, in pixels.
        held_out: number of training images to hold out if there is no validation split.
        seed: seed of that split.

    Raises:
        DataError: the source does not exist, has no image or label column, or has too few images
            or classes.
    """
    splits = _open(source)
    labels = _labels(splits["train"], source)
    if len(labels) < 2:
        raise DataError(f"data: {source} has one class, {labels[0]!r}; training needs two or more")
    train = _files(splits["train"], size, labels, source)
    if "validation" in splits:
        return Dataset(train, _files(splits["validation"], size, labels, source), labels)
    if not 0 < held_out < len(train):
        raise DataError(
            f"held_out: {held_out} of {len(train)} images leaves no training images; give fewer "
            "(--held-out N)"
        )
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    return Dataset(train.select(order[held_out:]), train.select(order[:held_out]), labels)


def _open(source: str) -> Mapping[str, datasets.Dataset]:
    path = Path(source)
    try:
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files={"train": str(path)})
        elif path.is_dir() and (files := sorted(path.rglob("*.parquet"))):
            loaded = datasets.load_dataset("parquet", data_files=_by_split(files, path))
        elif path.is_dir():
            loaded = datasets.load_dataset("imagefolder", data_dir=source)
        elif path.is_absolute() or source.startswith("."):
            raise DataError(f"data: there is no file or folder {source}")
        else:
            loaded = datasets.load_dataset(source)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"data: {source} cannot be loaded: {error}") from error
    if "train" not in loaded:
        raise DataError(f"data: {source} has no split 'train', only {', '.join(loaded)}")
    return dict(loaded)


def _by_split(files: list[Path], root: Path) -> dict[str, list[str]]:
    """Group files by split: by the name of the file, or else of a folder above it."""
    splits: dict[str, list[str]] = {}
    for file in files:
        words = re.split(r"[^a-z]+", str(file.relative_to(root)).lower())
        named = [SPLIT_WORDS[word] for word in reversed(words) if word in SPLIT_WORDS]
        if not named and len(files) > 1:
            raise DataError(f"data: {file} is of no known split; rename it, for example train-*")
        splits.setdefault(named[0] if named else "train", []).append(str(file))
    return splits


def _column(split: datasets.Dataset, kinds: tuple[type, ...], names: tuple[str, ...]) -> str | None:
    """Return the first column of one of these feature types, or else by name."""
    for column, feature in split.features.items():
        if isinstance(feature, kinds):
            return str(column)
    return next((name for name in names if name in split.features), None)


def _label_column(split: datasets.Dataset, source: str) -> str:
    column = _column(split, (datasets.ClassLabel,), ("label", "labels", "target", "fine_label"))
    if column is None:
        raise DataError(f"data: {source} has no label column, only {', '.join(split.features)}")
    return column


def _labels(split: datasets.Dataset, source: str) -> tuple[str, ...]:
    column = _label_column(split, source)
    feature = split.features[column]
    if isinstance(feature, datasets.ClassLabel):
        return tuple(feature.names)
    values = set(split[column][:])
    if None in values:
        raise DataError(f"data: {source} has images without a label (column {column})")
    return tuple(str(value) for value in sorted(values))


def load_split(source: str, split: str, size: int, labels: tuple[str, ...]) -> ImageFiles:
    """Open one split of a data set; targets are positions in `labels`.

    Args:
        source: see `open_dataset`.
        split: `train`, `validation` or `test`.
        size: height and width of the decoded images, in pixels.
        labels: all allowed labels.

    Raises:
        DataError: the split, the image column or the label column does not exist, or an image has
            a label that is not in `labels`.
    """
    splits = _open(source)
    if split not in splits:
        raise DataError(f"data: {source} has no split {split!r}, only {', '.join(splits)}")
    return _files(splits[split], size, labels, source)


def load_files(source: str, split: str, labels: tuple[str, ...]) -> list[File]:
    """Read the encoded image files of one split; see `load_split`."""
    return list(load_split(source, split, 1, labels).files())


def load_test(source: str, size: int, labels: tuple[str, ...]) -> ImageFiles | None:
    """Open the test split; return None if it does not exist or has no labels.

    Raises:
        DataError: the image or label column does not exist, or a label is not in `labels`.
    """
    test = _open(source).get("test")
    if test is None:
        return None
    # on the hub, -1 stands for an unknown label
    withheld = {None, -1} & set(test[_label_column(test, source)][:])
    return None if withheld else _files(test, size, labels, source)


def _files(split: datasets.Dataset, size: int, labels: tuple[str, ...], source: str) -> ImageFiles:
    image = _column(split, (datasets.Image,), ("image", "img", "jpg", "png"))
    if image is None:
        raise DataError(f"data: {source} has no image column, only {', '.join(split.features)}")
    column = _label_column(split, source)
    feature, index = split.features[column], {label: i for i, label in enumerate(labels)}
    targets = []
    for number, value in enumerate(split[column][:]):
        label = feature.names[value] if isinstance(feature, datasets.ClassLabel) else str(value)
        if label not in index:
            raise DataError(
                f"data: {source}, image {number}: label {label!r} is not in the training set"
            )
        targets.append(index[label])
    table = split.cast_column(image, datasets.Image(decode=False)).select_columns([image])
    rows = torch.arange(len(targets))
    return ImageFiles(table, image, rows, torch.tensor(targets), size, source)
