"""Images for training: in memory as uint8, or on disk as encoded files."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import side_wanted
from offramp.data.records import Encoded
from offramp.images.decode import decode_essence
from offramp.images.errors import ImageFileError, UnknownFormatError
from offramp.images.formats import format_of
from offramp.images.header import read_header
from training.data.crop import SMALLEST_AREA, random_part, size_upright
from training.data.encoded import EncodedImages, identity
from training.distributed import cores_per_process
from training.errors import DataError
from training.recipes import PLAIN, Resizing

READ_AT_ONCE = 1000  # files
UNLABELLED = -1  # target of an image without a label
LISTED = 100  # damaged files in one error


@dataclass(frozen=True, slots=True)
class File:
    """An encoded image file, its label, its name in error texts, and its resizing."""

    encoded: bytes
    target: int
    name: str
    resizing: Resizing = PLAIN


@dataclass(frozen=True, slots=True)
class Images:
    """Images uint8 [N, H, W, 3] (RGB) with labels int64 [N], which can be `UNLABELLED`."""

    pixels: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labelled(self) -> bool:
        """True if each image has a label."""
        return bool((self.targets != UNLABELLED).all())

    def select(self, indices: Tensor) -> Images:
        """Return the images at these indices."""
        return Images(self.pixels[indices], self.targets[indices])

    def to(self, device: torch.device) -> Images:
        """Copy the images to a device. The copy is asynchronous from pinned memory."""
        return Images(
            self.pixels.to(device, non_blocking=True), self.targets.to(device, non_blocking=True)
        )

    def decoded(self) -> Images:
        """Return self."""
        return self

    def parts(self) -> Iterator[Images]:
        """Yield self, as the only part."""
        yield self


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """Images that are read and decoded on demand.

    Args:
        encoded: The files, or a table with them.
        rows: Rows of the images, in order, int64 [N].
        targets: Labels, int64 [N], which can be `UNLABELLED`.
        size: Height and width of the decoded images, in pixels.
        source: Name of the data set in error texts.
        resizing: Way to bring an image to that size.
        smallest_crop: Smallest area of a random part, as a share of that of the image.
    """

    encoded: EncodedImages
    rows: Tensor
    targets: Tensor
    size: int
    source: str
    resizing: Resizing = PLAIN
    smallest_crop: float = SMALLEST_AREA

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def labelled(self) -> bool:
        """True if each image has a label."""
        return bool((self.targets != UNLABELLED).all())

    def select(self, indices: Tensor) -> ImageFiles:
        """Return the images at these indices."""
        return replace(self, rows=self.rows[indices], targets=self.targets[indices])

    def sample(self, number: int) -> Iterator[Encoded]:
        """Yield at most `number` of the encoded images, spread over all."""
        some = min(number, len(self))
        return self.encoded.read([int(self.rows[k * len(self) // some]) for k in range(some)])

    def files(self) -> Iterator[File]:
        """Yield the encoded files.

        Raises:
            DataError: One of them cannot be read.
        """
        for rows, targets in zip(
            self.rows.split(READ_AT_ONCE), self.targets.split(READ_AT_ONCE), strict=True
        ):
            stored = self.encoded.read(rows.tolist())
            for one, target in zip(stored, targets.tolist(), strict=True):
                yield File(self._read(one), target, one.name, self.resizing)

    def _read(self, one: Encoded) -> bytes:
        try:
            return one.read()
        except OSError as error:
            raise DataError(
                f"data: {self.source}, {one.name} cannot be read: {error.strerror or error}"
            ) from error

    def decoded(self) -> Images:
        """Decode all images into memory, with one thread per CPU core."""
        pixels = torch.empty(len(self), self.size, self.size, 3, dtype=torch.uint8)
        start = 0
        for part in self.parts():
            pixels[start : start + len(part)] = part.pixels
            start += len(part)
        return Images(pixels, self.targets)

    def parts(self) -> Iterator[Images]:
        """Yield the decoded images, at most 1,000 at a time."""
        with ThreadPoolExecutor(cores_per_process()) as pool:
            for indices in torch.arange(len(self)).split(READ_AT_ONCE):
                some = self.select(indices)
                decoded = list(pool.map(self._attempt, some.files()))
                pixels = [each for each in decoded if not isinstance(each, DataError)]
                if len(pixels) < len(decoded):
                    raise self.damage()
                yield Images(torch.from_numpy(np.stack(pixels)), some.targets)

    def whole(self) -> tuple[ImageFiles, list[DataError]]:
        """Decode all files, and return those that are not damaged and the errors of the others."""
        kept, errors = [], []
        with ThreadPoolExecutor(cores_per_process()) as pool:
            for indices in torch.arange(len(self)).split(READ_AT_ONCE):
                found = pool.map(self._attempt, self.select(indices).files())
                for index, each in zip(indices.tolist(), found, strict=True):
                    if isinstance(each, DataError):
                        errors.append(each)
                    else:
                        kept.append(index)
        return self.select(torch.tensor(kept, dtype=torch.int64)), errors

    def damage(self) -> DataError:
        """Decode all files, and return one error that lists all that are damaged."""
        errors = self.whole()[1]
        if len(errors) == 1:
            return errors[0]
        start = f"data: {self.source}, "
        listed = [str(error).removeprefix(start) for error in errors[:LISTED]]
        if len(errors) > LISTED:
            listed.append(f"and {len(errors) - LISTED} more")
        return DataError(
            f"data: {len(errors)} of {len(self)} images cannot be decoded; remove them, or train "
            f"with --skip-damaged. {start}" + ", ".join(listed)
        )

    def _attempt(self, file: File) -> NDArray[np.uint8] | DataError:
        try:
            return self.pixels(file)
        except DataError as error:
            return error

    def pixels(self, file: File, crop: np.random.Generator | None = None) -> NDArray[np.uint8]:
        """Decode one file to uint8 [size, size, 3]: the middle, or with `crop` a random part.

        Raises:
            DataError: The file is damaged, of a kind that is not read, or not an image.
        """
        target = image_input(self.size, file.resizing)
        try:
            header = read_header(file.encoded, side_wanted(target))
            essence = header.essence(file.encoded)
            part = None
            if crop:
                part = random_part(size_upright(header, essence), crop, self.smallest_crop)
            return decode_essence(header, essence, target, part)
        except ImageFileError as error:
            raise DataError(f"data: {self.source}, {_refusal(file, error)}") from error

    def identities(self) -> Iterator[bytes]:
        """Yield bytes for each image that differ for another one (see `identity`).

        Raises:
            DataError: A file cannot be found.
        """
        for row in self.rows.tolist():
            (one,) = self.encoded.read([row])
            try:
                found = identity(one)
            except OSError as error:
                raise DataError(f"data: {self.source}, {one.name} cannot be read") from error
            yield found


def _refusal(file: File, error: ImageFileError) -> str:
    if isinstance(error, UnknownFormatError) and format_of(file.encoded) is None:
        return f"{file.name} is not an image; remove it"
    return f"{file.name} cannot be decoded: {error}"


def image_input(size: int, resizing: Resizing = PLAIN) -> ImageInput:
    """Return the resizing of images, the same in training and serving."""
    return ImageInput(
        height=size, width=size, fit="crop", filter=resizing.filter, margin=resizing.margin
    )
