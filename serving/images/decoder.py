"""From the bytes of an image file to the tensor that stage 1 takes.

JPEG, PNG and WebP. The format and the number of pixels are read from the header and checked
before a pixel is decoded. Plain JPEGs are decoded by `jpeg`, all else by Pillow, to the same
pixels. Of an animation the first frame counts.
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

# Named by their plugins, so that Pillow need not load all others to find them.
FORMATS = (JpegImageFile.format, PngImageFile.format, WebPImageFile.format)
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which warns; `max_pixels` stands in its place
Size = tuple[int, int]  # width, height
SMALL = 1 << 14  # pixels of a call's JPEGs together; to decode them takes about as long as a hop


class Decoder:
    """Decodes images: small ones at once, others on threads of its own, off the event loop.

    Args:
        target: the size, and how an image is brought to it.
        max_pixels: pixels that are decoded at most.
        threads: images decoded at the same time.
    """

    def __init__(self, target: ImageInput, max_pixels: int, threads: int) -> None:
        self._target = target
        self._max_pixels = max_pixels
        self._executor = ThreadPoolExecutor(threads, "decode")

    async def decode(self, files: Sequence[bytes]) -> list[NDArray[np.uint8]]:
        """The images as uint8 [H, W, 3] each. Raises what `decode` raises, naming the image."""
        return await asyncio.gather(*(self._one(i, file) for i, file in enumerate(files, 1)))

    def small(self, files: Sequence[bytes]) -> list[Size] | None:
        """The sizes of images that take no longer to decode than to hand to a thread.

        None where these would, or where one is not a plain JPEG.
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
        """What `decode` gives, at once, for images that are `small`; None where one is damaged."""
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
        EmptyBodyError: there is not a byte.
        NotAnImageError: it is not JPEG, PNG or WebP.
        ImageTooLargeError: its header says more than `max_pixels` pixels.
        DamagedImageError: it breaks off, or cannot be decoded.
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
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DamagedImageError(f"cannot be decoded ({error}); send it whole") from error


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{width} x {height} = {width * height} pixels, at most {max_pixels} are decoded; "
            "send it smaller"
        )
