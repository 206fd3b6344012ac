"""Images as callers give them: paths, bytes, Pillow images or arrays."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.modes import PixelsError, rescaled
from offramp.bundle.preprocess import bring_to_size, side_wanted
from offramp.errors import UnreadableFileError
from offramp.images.decode import decode_essence
from offramp.images.header import read_header
from serving.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    DamagedImageError,
    DeadlineError,
    EmptyBodyError,
    ImageTooLargeError,
    NotAnImageError,
    StageError,
    UnsupportedImageError,
)

Pixels = NDArray[np.uint8]
ImageSource = str | os.PathLike[str] | bytes | Image.Image | Pixels
PIECE = 1 << 16  # bytes that are read from a pipe at once
MAX_PIXELS = 25_000_000  # as the server's default


# The errors that are about one image. The other images of a stream are not affected.
IMAGE_ERRORS = (
    BodyTimeoutError,
    BodyTooLargeError,
    DamagedImageError,
    DeadlineError,
    EmptyBodyError,
    ImageTooLargeError,
    NotAnImageError,
    StageError,
    UnreadableFileError,
    UnsupportedImageError,
)


def each_image(images: ImageSource | Iterable[ImageSource]) -> Iterator[ImageSource]:
    """Return an iterator of an argument that is one image or many.

    An array of four axes, [N, H, W, 3], is N images.
    """
    one = isinstance(images, str | bytes | os.PathLike | Image.Image)
    if one or (isinstance(images, np.ndarray) and images.ndim != 4):
        return iter([images])  # type: ignore[list-item] # an array of four axes is the only one of many images
    return iter(images)  # type: ignore[arg-type] # as above, what is left are many


def file_of(source: str | os.PathLike[str] | bytes, max_bytes: int) -> bytes:
    """Return the bytes of an image file, read from its path or given.

    Raises:
        UnreadableFileError: It cannot be opened or read.
        BodyTooLargeError: It has more than `max_bytes`.
    """
    if isinstance(source, bytes):
        return _bounded(source, "the file", max_bytes)
    name = os.fspath(source)
    try:
        with open(name, "rb", buffering=0) as file:  # noqa: PTH123 (faster than Path.open)
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):  # a pipe, which can have no end
                return _bounded(_piped(file, max_bytes + 1), name, max_bytes)
            if status.st_size > max_bytes:
                raise _too_large(name, max_bytes)
            return file.readall()
    except OSError as error:
        raise UnreadableFileError(f"{name}: {error.strerror or error}") from error


def _piped(file: io.FileIO, most: int) -> bytes:
    parts, size = [], 0
    while size < most and (part := file.read(min(PIECE, most - size))):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _bounded(content: bytes, name: str, max_bytes: int) -> bytes:
    if len(content) > max_bytes:
        raise _too_large(name, max_bytes)
    return content


def _too_large(name: str, max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"{name} has more than {max_bytes} bytes")


def _check_array(image: Pixels) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shape = list(image.shape)
        raise NotAnImageError(f"an array must be uint8 [H, W, 3], not {image.dtype} {shape}")
    if 0 in image.shape:
        raise NotAnImageError("an array must have pixels")


def pixels_from(
    image: Image.Image | Pixels, target: ImageInput, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Bring a Pillow image or an array to the input of a model.

    Args:
        image: A Pillow image, which stays as it is, or RGB pixels, uint8 [H, W, 3].
        target: Size of the input, and how an image is brought to it.
        max_pixels: Most pixels of an image.

    Returns:
        RGB pixels, uint8 [target.height, target.width, 3].

    Raises:
        NotAnImageError: The array is not uint8 [H, W, 3].
        ImageTooLargeError: The image has more than `max_pixels` pixels.
        DamagedImageError: The file behind the Pillow image cannot be decoded.
        UnsupportedImageError: Its pixels have no stated conversion to 8 bits.
    """
    if isinstance(image, np.ndarray):
        _check_array(image)
        if image.shape == (target.height, target.width, 3):
            return image
    width, height = image.size if isinstance(image, Image.Image) else image.shape[1::-1]
    if width * height > max_pixels:
        raise ImageTooLargeError(f"{width} x {height} pixels, at most {max_pixels} are read")
    return _resized(image, target)


def _resized(image: Image.Image | Pixels, target: ImageInput) -> Pixels:
    try:
        if isinstance(image, np.ndarray):
            return np.asarray(bring_to_size(Image.fromarray(image), target))
        drawn = rescaled(image).copy()
        drawn.format = image.format  # which tells the scale of 16-bit grey in mode I
        return np.asarray(bring_to_size(drawn, target))
    except PixelsError as error:
        raise UnsupportedImageError(str(error)) from error
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged files
        raise DamagedImageError(f"cannot be decoded ({error})") from error


def shrunk(file: bytes, target: ImageInput) -> Pixels | None:
    """Bring a large image file to the input of a model, as a server would.

    A JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is enough. The EXIF orientation is
    applied.

    Args:
        file: Bytes of an image file.
        target: Size of the input, and how an image is brought to it.

    Returns:
        RGB pixels, uint8 [target.height, target.width, 3]. `None` where sending the file is better:
        it has no more bytes than the pixels, or this function cannot read it and the server can
        say why.
    """
    if len(file) <= target.height * target.width * 3:
        return None
    try:
        header = read_header(file, side_wanted(target))
        return decode_essence(header, header.essence(file), target)
    except Exception:  # noqa: BLE001 (the server answers with the reason)
        return None


def png_of(pixels: Pixels) -> bytes:
    """Return RGB pixels, uint8 [H, W, 3], as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
