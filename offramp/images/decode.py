"""Decode an image file to 8-bit RGB at a target's size: the same in training and in service.

Metadata beside the pixels never decides whether a file is read: a decoder gets only the part of it
that decides its pixels.
"""

from __future__ import annotations

import io
import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from offramp.bundle.manifest import ImageInput
from offramp.bundle.modes import REMEDY, PixelsError
from offramp.bundle.preprocess import Box, bring_to_size
from offramp.images.errors import (
    CostlyFileError,
    DamagedFileError,
    ImageFileError,
    UnsupportedPixelsError,
)
from offramp.images.header import Header
from offramp.images.tiff import Tiff
from offramp.images.without_metadata import Essence, png_has_all_rows

# The number of pixels is bounded before a file is opened, and Pillow's own limit only warns.
Image.MAX_IMAGE_PIXELS = None
# Texts of Pillow about a whole file. It has no type of error for them.
_NOT_READ = re.compile("[Uu]nsupported BMP|unknown raw mode|conversion from .* not supported")


def decode_essence(
    header: Header, essence: Essence, target: ImageInput, part: Box | None = None
) -> NDArray[np.uint8]:
    """Decode an image to uint8 [target.height, target.width, 3], RGB.

    Args:
        header: Header of the file.
        essence: The part of the file that decides its pixels.
        target: Size of the result and the way to reach it.
        part: Part of the image to use instead of `target.fit`, as `bring_to_size` takes it.

    Raises:
        DamagedFileError: The file is truncated or cannot be decoded.
        UnsupportedPixelsError: Its pixels have no stated conversion to 8 bits.
        CostlyFileError: It is larger than its header says.
    """
    # the orientation of AVIF and HEIC is a property of the image, which their plugins read
    orientation = None if header.format in ("AVIF", "HEIF") else essence.orientation
    try:
        with Image.open(io.BytesIO(essence.file), formats=[header.format]) as image:
            if image.size[0] * image.size[1] > header.width * header.height:
                raise CostlyFileError("it is larger than its header says; save it again")
            _check_transparency(header, essence.file)
            if header.format == "PNG":
                _check_rows(image, essence.file)
            return np.array(bring_to_size(image, target, part, orientation))
    except PixelsError as error:
        raise UnsupportedPixelsError(str(error)) from error
    except (UnsupportedPixelsError, CostlyFileError):
        raise
    except Exception as error:  # Pillow's plugins raise many types on damaged files
        raise _error_of(header, error) from error


def _error_of(header: Header, error: Exception) -> ImageFileError:
    """Return the error of a file that Pillow does not read: of a kind that is not, or damaged."""
    text = str(error)[:200]
    if isinstance(error, UnidentifiedImageError):
        if isinstance(header.detail, Tiff) and header.detail.strips:  # with all that it needs
            return UnsupportedPixelsError(f"its kind of TIFF is not read; {REMEDY}")
        text = f"Pillow cannot read its header as {header.format}"
    elif _NOT_READ.search(text):
        return UnsupportedPixelsError(f"it is not read ({text}); {REMEDY}")
    return DamagedFileError(text or type(error).__name__)


def _check_rows(image: Image.Image, file: bytes) -> None:
    """Refuse a PNG with too few rows. Those that lack are 0, so others are not inflated again."""
    image.load()
    width, height = image.size
    last = height - 1 - (height & 1 if file[28] else 0)  # no pass ends with an even row
    row = image.crop((0, last, width, last + 1)) if last >= 0 else None
    if (row is None or not np.asarray(row).any()) and not png_has_all_rows(file):
        raise DamagedFileError("this PNG has too few rows")


def _check_transparency(header: Header, file: bytes) -> None:
    """Refuse 16-bit colours with a transparent one: Pillow drops the bits to compare."""
    if header.format == "PNG" and file[24:26] == b"\x10\x02" and b"tRNS" in file[33:4096]:
        raise UnsupportedPixelsError(
            "16-bit RGB with a transparent colour is not read; save it with an alpha channel"
        )
