"""Small trees of image files for tests, and what a data set has of them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from offramp.data.errors import DatasetError
from offramp.data.reader import read_dataset
from offramp.data.records import Found


@cache
def encoded(format_: str = "PNG", size: tuple[int, int] = (4, 3)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file := io.BytesIO(), format_)
    return file.getvalue()


def error_of(source: Path) -> str:
    """Return the text of the error that refuses a data set."""
    with pytest.raises(DatasetError) as raised:
        read_dataset(source)
    return str(raised.value)


def put(root: Path, *names: str, content: bytes | None = None) -> Path:
    """Write a file for each name, an image unless `content` is given, and return the root."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded() if content is None else content)
    return root


def photos(root: Path, folders: Iterable[str], number: int = 3) -> Path:
    """Write `number` images into each folder, and return the root."""
    for folder in folders:
        put(root, *(f"{folder}/{i}.png" for i in range(number)))
    return root


def table(root: Path, text: str, name: str = "labels.csv") -> Path:
    """Write a table beside three images."""
    put(root, "a.png", "b.png", "in ner/c")
    path = root / name
    path.write_text(text, encoding="utf-8")
    return path


def counts(found: Found) -> dict[str, dict[str, int]]:
    """Return the images of each class in each split."""
    return {
        split: {
            label: int((part.targets == k).sum())
            for k, label in enumerate(found.classes)
            if (part.targets == k).any()
        }
        for split, part in found.parts.items()
    }


def loaded(found: Found) -> dict[str, dict[str, str]]:
    """Return the label of each image by its name, for each split."""
    return {
        split: {
            each.name: found.classes[target]
            for each, target in zip(part.images, part.targets.tolist(), strict=True)
        }
        for split, part in found.parts.items()
    }


def reasons(found: Found) -> dict[str, str]:
    return {each.name: each.reason for each in found.left_out}
