"""Images for training: from a hub name, parquet files or a folder of images to tensors.

The whole set is held as uint8; augmentation is tensor code (`training.augment`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from serving.manifest import ImageInput
from serving.preprocess import fit
from training.errors import DataError


@dataclass(frozen=True, slots=True)
class File:
    """An image file and its label."""

    encoded: bytes
    target: int


@dataclass(frozen=True, slots=True)
class Images:
    """Images uint8 [N, H, W, 3] (RGB) with their labels int64 [N]."""

    pixels: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, indices: Tensor) -> Images:
        """The images at these indices."""
        return Images(self.pixels[indices], self.targets[indices])

    def to(self, device: torch.device) -> Images:
        """The same images on a device."""
        return Images(self.pixels.to(device), self.targets.to(device))


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a run sees. `held_out` is never trained on; `test` never decides anything."""

    train: Images
    held_out: Images
    test: Images | None
    labels: tuple[str, ...]


def image_input(size: int) -> ImageInput:
    """How images are brought to size, in training and then in service."""
    return ImageInput(height=size, width=size, fit="crop", filter="bilinear")


def load_dataset(source: str, size: int, held_out: int, seed: int) -> Dataset:
    """Load a data set and put a validation split aside.

    Args:
        source: a folder of parquet files (`train-*.parquet`, `test-*.parquet`), one parquet
            file, a folder with one folder of images for each class (or `train/` and `test/`
            of such), or else a name on the Hugging Face hub.
        size: height and width that images are brought to, in pixels.
        held_out: images to split off the training set where there is no validation split.
        seed: of that split.

    Raises:
        DataError: nothing there, no image or label column, or too few images.
    """
    splits = _open(source)
    labels = _labels(splits["train"], source)
    decoded = {
        name: _decode(split, size, labels, f"{source} ({name})")
        for name, split in splits.items()
        if name in ("train", "validation", "test")
    }
    train, validation = decoded["train"], decoded.get("validation")
    if validation is None:
        if not 0 < held_out < len(train):
            raise DataError(f"held_out: {held_out} of {len(train)} images leaves none to train on")
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        validation = train.select(order[:held_out])
        train = train.select(order[held_out:])
    return Dataset(train, validation, decoded.get("test"), labels)


def _open(source: str) -> Mapping[str, datasets.Dataset]:
    path = Path(source)
    try:
        if path.is_file():
            loaded = datasets.load_dataset("parquet", data_files={"train": str(path)})
        elif path.is_dir() and (files := sorted(path.rglob("*.parquet"))):
            loaded = datasets.load_dataset("parquet", data_files=_by_split(files))
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


def _by_split(files: list[Path]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for file in files:
        name = next((s for s in ("test", "validation") if file.stem.startswith(s)), "train")
        splits.setdefault(name, []).append(str(file))
    return splits


def _column(split: datasets.Dataset, kinds: tuple[type, ...], names: tuple[str, ...]) -> str | None:
    """The first column of one of these feature types, or else by name."""
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
    return tuple(str(value) for value in sorted(set(split[column])))


def load_files(source: str, split: str) -> list[File]:
    """The image files of one split as they are, with their labels.

    Raises:
        DataError: no such split, or no image or label column.
    """
    splits = _open(source)
    if split not in splits:
        raise DataError(f"data: {source} has no split {split!r}, only {', '.join(splits)}")
    return _files(splits[split], _labels(splits[split], source), source)


def _files(split: datasets.Dataset, labels: tuple[str, ...], source: str) -> list[File]:
    image = _column(split, (datasets.Image,), ("image", "img", "jpg", "png"))
    if image is None:
        raise DataError(f"data: {source} has no image column, only {', '.join(split.features)}")
    encoded = split.cast_column(image, datasets.Image(decode=False))[image]
    column = _label_column(split, source)
    targets = split[column]
    if not isinstance(split.features[column], datasets.ClassLabel):
        index = {label: i for i, label in enumerate(labels)}
        targets = [index[str(target)] for target in targets]
    return [
        File(one["bytes"] or Path(one["path"]).read_bytes(), target)
        for one, target in zip(encoded, targets, strict=True)
    ]


def _decode(split: datasets.Dataset, size: int, labels: tuple[str, ...], source: str) -> Images:
    files = _files(split, labels, source)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        numbered = enumerate(files)
        pixels = list(pool.map(lambda f: _pixels(f[1], size, f"{source}, image {f[0]}"), numbered))
    targets = torch.tensor([file.target for file in files], dtype=torch.int64)
    return Images(torch.from_numpy(np.stack(pixels)), targets)


def _pixels(file: File, size: int, where: str) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(file.encoded)) as image:
            return np.asarray(fit(image, image_input(size)))
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DataError(f"data: {where} cannot be decoded: {error}") from error
