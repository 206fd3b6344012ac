"""The data sets of checkpoints and bundles that were made before version 0.2, split as then.

The split is one random permutation of all images, in the order in which `datasets` gives them.
Only recipes that say so (`held_out_split="random"`) use this module. A fingerprint in each
checkpoint shows if the images are the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import datasets
import torch

from training.data.encoded import TableImages
from training.data.images import ImageFiles
from training.errors import DataError

SPLIT_WORDS = {
    "train": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def open_at_random(
    source: str, size: int, held_out: int, seed: int
) -> tuple[ImageFiles, ImageFiles, tuple[str, ...]]:
    """Open a data set, and hold out images at random if there is no validation split.

    Args:
        source: A folder of parquet files or of class folders, a parquet file, or a name on the
            Hugging Face hub.
        size: Height and width of the decoded images, in pixels.
        held_out: Number of images to hold out.
        seed: Seed of the permutation.

    Returns:
        The training images, the held-out images, and the labels.

    Raises:
        DataError: The source cannot be loaded, or has too few images or classes.
    """
    splits = _open(source)
    labels = _labels(splits["train"], source)
    if len(labels) < 2:
        raise DataError(f"data: {source} has one class, {labels[0]!r}; training needs two or more")
    train = _files(splits["train"], size, labels, source)
    if "validation" in splits:
        return train, _files(splits["validation"], size, labels, source), labels
    return *_without_held_out(train, held_out, seed), labels


def _without_held_out(files: ImageFiles, held_out: int, seed: int) -> tuple[ImageFiles, ImageFiles]:
    """Return the training images and the held-out images."""
    if not 0 < held_out < len(files):
        raise DataError(
            f"held_out: {held_out} of {len(files)} images leaves no training images; give fewer "
            "(--held-out N)"
        )
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed))
    return files.select(order[held_out:]), files.select(order[:held_out])


def _open(source: str) -> Mapping[str, datasets.Dataset]:
    try:
        loaded = _load(source)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"data: {source} cannot be loaded: {error}") from error
    if "train" not in loaded:
        raise DataError(f"data: {source} has no split 'train', only {', '.join(loaded)}")
    return loaded


def _load(source: str) -> Mapping[str, datasets.Dataset]:
    path = Path(source)
    if path.is_file():
        loaded = datasets.load_dataset("parquet", data_files={"train": str(path)})
    elif path.is_dir() and (files := sorted(path.rglob("*.parquet"))):
        loaded = datasets.load_dataset("parquet", data_files=_by_split(files, path))
    elif path.is_dir():
        loaded = datasets.load_dataset("imagefolder", data_dir=source)
    else:
        loaded = datasets.load_dataset(source)
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
    return ImageFiles(TableImages(table, image), rows, torch.tensor(targets), size, source)
