"""From the bytes of an image file to the tensor that stage 1 takes.

JPEG, PNG and WebP. The format and the number of pixels are read from the header and checked
before a pixel is decoded. What the files may hold comes out as 8-bit RGB: the EXIF
orientation is applied, transparency is laid on white, 16 bits are scaled to 8, palettes,
grey and CMYK are converted; of an animation the first frame counts.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from serving.errors import (
    DamagedImageError,
    EmptyBodyError,
    ImageTooLargeError,
    InvalidRequestError,
    NotAnImageError,
)
from serving.manifest import ImageInput

# Named by their plugins, so that Pillow need not load all others to find them.
FORMATS = (JpegImageFile.format, PngImageFile.format, WebPImageFile.format)
FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
BACKGROUND = "white"
GAP = 2.0  # a large image is first reduced coarsely to this many times the size wanted
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which warns; `max_pixels` stands in its place


class Decoder:
    """Decodes images on threads of its own, off the event loop.

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

    async def _one(self, number: int, file: bytes) -> NDArray[np.uint8]:
        loop = asyncio.get_running_loop()
        arguments = (file, self._target, self._max_pixels)
        try:
            return await loop.run_in_executor(self._executor, decode, *arguments)
        except InvalidRequestError as error:
            raise type(error)(f"image {number}: {error}") from error

    def close(self) -> None:
        """Stop the threads."""
        self._executor.shutdown()


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
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            _check_pixels(image, max_pixels)
            return np.asarray(_fit(image, target))
    except UnidentifiedImageError as error:
        raise NotAnImageError("this is not a JPEG, PNG or WebP image; convert it to one") from error
    except InvalidRequestError:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DamagedImageError(f"cannot be decoded ({error}); send it whole") from error


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise ImageTooLargeError(
            f"{image.width} x {image.height} = {pixels} pixels, at most {max_pixels} are decoded; "
            "send it smaller"
        )


def _fit(image: Image.Image, target: ImageInput) -> Image.Image:
    side = int(GAP * max(target.width, target.height))
    image.draft(None, (side, side))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is enough
    ImageOps.exif_transpose(image, in_place=True)
    image = _drawable(image)
    size = (target.width, target.height)
    if image.size != size:
        box = _middle(image.size, size) if target.fit == "crop" else None
        image = image.resize(size, FILTERS[target.filter], box, reducing_gap=GAP)
    return _opaque(image)


def _middle(size: tuple[int, int], wanted: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box of the wanted proportions in the middle of an image."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = scale * wanted[0], scale * wanted[1]
    left, top = (size[0] - width) / 2, (size[1] - height) / 2
    return left, top, left + width, top + height


def _drawable(image: Image.Image) -> Image.Image:
    """As RGB or RGBA, which resize and blend as they should."""
    if image.mode.startswith("I"):  # 16-bit grey; convert() would clip it
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    background = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(background, image).convert("RGB")
