"""Images for training: in memory as uint8, or on disk as the files they are."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import bring_to_size
from training.data.crop import random_part, upright_size
from training.errors import DataError

READ_AT_ONCE = 1000  # files


@dataclass(frozen=True, slots=True)
class File:
    """An image file, its label, and what to call it in an error."""

    encoded: bytes
    target: int
    name: str


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
        """The same images on a device; at once from pinned memory, which need not wait."""
        return Images(
            self.pixels.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        )

    def decoded(self) -> Images:
        """These."""
        return self

    def parts(self) -> Iterator[Images]:
        """These, as one part."""
        yield self


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images that are read and decoded when they are asked for.

    Args:
        table: whose column `column` is {"bytes", "path"}.
        rows: int64 [N], which rows, and in which order.
        targets: int64 [N].
        size: height and width that images are brought to, in pixels.
        source: what to call the set in an error.
    """

    table: datasets.Dataset
    column: str
    rows: Tensor
    targets: Tensor
    size: int
    source: str

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, indices: Tensor) -> ImageFiles:
        """The images at these indices."""
        return replace(self, rows=self.rows[indices], targets=self.targets[indices])

    def files(self) -> Iterator[File]:
        """The files as they are."""
        for rows, targets in zip(
            self.rows.split(READ_AT_ONCE), self.targets.split(READ_AT_ONCE), strict=True
        ):
            stored = self.table[rows.tolist()][self.column]
            for one, row, target in zip(stored, rows.tolist(), targets.tolist(), strict=True):
                name = one["path"] or f"image {row}"
                yield File(one["bytes"] or Path(one["path"]).read_bytes(), target, name)

    def decoded(self) -> Images:
        """All of them in memory, decoded by as many threads as there are cores."""
        pixels = torch.empty(len(self), self.size, self.size, 3, dtype=torch.uint8)
        start = 0
        for part in self.parts():
            pixels[start : start + len(part)] = part.pixels
            start += len(part)
        return Images(pixels, self.targets)

    def parts(self) -> Iterator[Images]:
        """The same, no more than 1,000 of them in memory at a time."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for indices in torch.arange(len(self)).split(READ_AT_ONCE):
                some = self.select(indices)
                decoded = np.stack(list(pool.map(self.pixels, some.files())))
                yield Images(torch.from_numpy(decoded), some.targets)

    def pixels(self, file: File, crop: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """One file as uint8 [size, size, 3]: its middle, or a random part of it.

        Raises:
            DataError: it is damaged, or no image.
        """
        try:
            with Image.open(io.BytesIO(file.encoded)) as image:
                part = random_part(upright_size(image), crop) if crop else None
                return np.array(bring_to_size(image, image_input(self.size), part))
        except UnidentifiedImageError as error:
            raise DataError(
                f"data: {self.source}, {file.name} is not an image; remove it"
            ) from error
        except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
            raise DataError(
                f"data: {self.source}, {file.name} cannot be decoded: {error}"
            ) from error


def image_input(size: int) -> ImageInput:
    """How images are brought to size, in training and then in service."""
    return ImageInput(height=size, width=size, fit="crop", filter="bilinear")
