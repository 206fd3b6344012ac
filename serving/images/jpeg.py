"""Decode plain JPEGs with libjpeg-turbo, faster than Pillow and to the same pixels.

A plain JPEG is baseline or progressive, has 8 bits and YCbCr at 4:4:4, 4:2:2 or 4:2:0. It has no
segment that changes Pillow's result: no EXIF (it can rotate the image), no Adobe segment, no
second image. Pillow decodes all other files and every damaged one (`preprocess`). Its pixels are
the reference, because the network was trained on them.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import fitted, side_wanted

SCALES = (8, 4, 2, 1)  # Pillow decodes at 1/8, 1/4, 1/2 or 1/1 of the size
SOI = b"\xff\xd8"
JFIF = b"\xff\xe0\x00\x10JFIF\x00"  # without a thumbnail
PROFILE = b"ICC_PROFILE\x00"
FRAMES = (0xC0, 0xC2)  # baseline, progressive
SCAN, APP2 = 0xDA, 0xE2
SKIPPED = (0xC4, 0xDB, 0xDD, 0xFE)  # Huffman and quantisation tables, restart interval, comment
SAMPLINGS = (
    0x11,
    0x21,
    0x22,
)  # of luma relative to chroma: equal, twice across, twice in both directions
SMALLEST = 8  # pixels of a side; below, several scales give the same size


def plain_size(file: bytes) -> tuple[int, int] | None:
    """Read width and height from a plain JPEG's header. `None` for any other file."""
    if not file.startswith(SOI + JFIF):
        return None
    at, size = len(SOI) + 18, None
    while file[at : at + 1] == b"\xff" and at + 4 <= len(file):
        marker, end = file[at + 1], at + 2 + int.from_bytes(file[at + 2 : at + 4])
        if marker == SCAN:
            return size
        if marker in FRAMES and size is None:
            size = _frame_size(file[at + 4 : end])
            if size is None:
                return None
        elif marker not in SKIPPED and not (marker == APP2 and _is_profile(file[at + 4 : end])):
            return None
        at = end
    return None


def _frame_size(frame: bytes) -> tuple[int, int] | None:
    """Read width and height from a frame header.

    It has precision, height, width, and for each component number, sampling and table.
    """
    if len(frame) != 15 or frame[0] != 8 or frame[5] != 3:
        return None
    if frame[7] not in SAMPLINGS or not frame[10] == frame[13] == 0x11:
        return None
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    return (width, height) if min(width, height) >= SMALLEST else None


def _is_profile(segment: bytes) -> bool:
    return segment.startswith(PROFILE) and len(segment) > len(PROFILE) + 2


def decode_plain(
    file: bytes, size: tuple[int, int], target: ImageInput
) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG to the target's size, uint8 [H, W, 3]. `None` if the file is damaged.

    Args:
        file: A plain JPEG.
        size: Its width and height, from `plain_size`.
        target: Size of the result and the way to reach it.
    """
    room = min(size) // side_wanted(target)
    scale = next(scale for scale in SCALES if room >= scale or scale == 1)
    width, height = (-(-side // scale) for side in size)
    try:
        # decodes at the smallest scale that gives at least this size, which is `scale`
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            file, "RGB", min_height=height, min_width=width
        )
    except ValueError:  # libjpeg warned, and Pillow can ignore the warning
        return None
    if pixels.shape[:2] != (height, width):
        return None
    if (height, width) == (target.height, target.width):
        return pixels
    return np.asarray(fitted(Image.fromarray(pixels), target))
