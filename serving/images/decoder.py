"""Decode an image file to the tensor that stage 1 takes.

The formats are JPEG, PNG and WebP. Format and number of pixels are read from the header and
checked before any pixel is decoded. Plain JPEGs are decoded by `jpeg`, all other files by Pillow,
to the same pixels. Of an animation the first frame is used.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import bring_to_size
from serving.errors import (
    DamagedImageError,
    EmptyBodyError,
    ImageTooLargeError,
    InvalidRequestError,
    NotAnImageError,
)
from serving.images.jpeg import decode_plain, plain_size

# The plugins are imported by name, so that Pillow does not load all others to find them.
FORMATS = (JpegImageFile.format, PngImageFile.format, WebPImageFile.format)
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit only warns; `max_pixels` replaces it
Size = tuple[int, int]  # width, height
# Pixels of all JPEGs of a call. To decode so many takes as long as to hand them to a thread.
SMALL = 1 << 14


class Decoder:
    """A decoder of small images on the event loop and of all others on threads of its own.

    Args:
        target: Size of the decoded image and the way to reach it.
        max_pixels: Largest number of pixels of an image that is decoded.
        threads: Number of images decoded at the same time.
    """

    def __init__(self, target: ImageInput, max_pixels: int, threads: int) -> None:
        self._target = target
        self._max_pixels = max_pixels
        self._executor = ThreadPoolExecutor(threads, "decode")

    async def decode(self, files: Sequence[bytes]) -> list[NDArray[np.uint8]]:
        """Decode images on threads to uint8 [H, W, 3] each.

        Raises:
            InvalidRequestError: As the function `decode` raises, with the number of the image.
        """
        return await asyncio.gather(*(self._one(i, file) for i, file in enumerate(files, 1)))

    def small(self, files: Sequence[bytes]) -> list[Size] | None:
        """Return the sizes of images that are decoded as fast as a thread could take them.

        `None` if they are too large, or if one of them is not a plain JPEG.
        """
        if sum(map(len, files)) > SMALL:
            return None
        sizes = [size for size in map(plain_size, files) if size]
        pixels = [width * height for width, height in sizes]
        if len(sizes) < len(files) or sum(pixels) > SMALL or max(pixels) > self._max_pixels:
            return None
        return sizes

    def decode_small(
        self, files: Sequence[bytes], sizes: Sequence[Size]
    ) -> list[NDArray[np.uint8]] | None:
        """Decode images of these `small` sizes at once. `None` if one of them is damaged."""
        pairs = zip(files, sizes, strict=True)
        images = [decode_plain(file, size, self._target) for file, size in pairs]
        whole = [image for image in images if image is not None]
        return whole if len(whole) == len(files) else None

    async def _one(self, number: int, file: bytes) -> NDArray[np.uint8]:
        loop = asyncio.get_running_loop()
        arguments = (file, self._target, self._max_pixels)
        try:
            return await loop.run_in_executor(self._executor, decode, *arguments)
        except InvalidRequestError as error:
            raise type(error)(f"image {number}: {error}") from error

    def close(self) -> None:
        """Stop the threads, without waiting for an image that is being decoded."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def decode(file: bytes, target: ImageInput, max_pixels: int) -> NDArray[np.uint8]:
    """Decode an image file to uint8 [target.height, target.width, 3], RGB.

    Raises:
        EmptyBodyError: The file has no bytes.
        NotAnImageError: The file is not JPEG, PNG or WebP.
        ImageTooLargeError: The header gives more than `max_pixels` pixels.
        DamagedImageError: The file is truncated or cannot be decoded.
    """
    if not file:
        raise EmptyBodyError("there are no bytes; send the image as the body (--data-binary @file)")
    size = plain_size(file)
    if size is not None:
        _check_pixels(size, max_pixels)
        pixels = decode_plain(file, size, target)
        if pixels is not None:
            return pixels
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            _check_pixels(image.size, max_pixels)
            return np.asarray(bring_to_size(image, target))
    except UnidentifiedImageError as error:
        raise NotAnImageError("this is not a JPEG, PNG or WebP image; convert it to one") from error
    except InvalidRequestError:
        raise
    except Exception as error:  # Pillow's plugins raise many types on damaged files
        raise DamagedImageError(f"cannot be decoded ({error}); send it whole") from error


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{width} x {height} = {width * height} pixels, at most {max_pixels} are decoded; "
            "send it smaller"
        )
