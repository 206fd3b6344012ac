"""Plain JPEGs, decoded by libjpeg-turbo without Pillow around it: the very same pixels, sooner.

Plain is: baseline or progressive, 8 bits, YCbCr at 4:4:4, 4:2:2 or 4:2:0, and nothing in front of
the picture that Pillow would look at: no EXIF (it may turn the picture), no Adobe segment, no
second picture. All else, and whatever is damaged, is Pillow's (`preprocess`), whose pixels are
the measure: a network was trained on them.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import fitted, side_wanted

SCALES = (8, 4, 2, 1)  # Pillow decodes at one of these fractions of the size
SOI = b"\xff\xd8"
JFIF = b"\xff\xe0\x00\x10JFIF\x00"  # without a thumbnail
PROFILE = b"ICC_PROFILE\x00"
FRAMES = (0xC0, 0xC2)  # baseline, progressive
SCAN, APP2 = 0xDA, 0xE2
SKIPPED = (0xC4, 0xDB, 0xDD, 0xFE)  # Huffman and quantisation tables, restart interval, comment
SAMPLINGS = (0x11, 0x21, 0x22)  # of brightness: as fine as colour, twice across, twice both ways
SMALLEST = 8  # pixels across; below, several scales give the same size


def plain_size(file: bytes) -> tuple[int, int] | None:
    """Width and height of a plain JPEG, from its header; None if it is anything else."""
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
    """Of the precision, height, width, and number, sampling and table of each component."""
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
    """The picture at the target's size, [H, W, 3]; None where the file is damaged.

    Args:
        file: a plain JPEG.
        size: its width and height, as `plain_size` found them.
        target: the size, and how to come to it.
    """
    room = min(size) // side_wanted(target)
    scale = next(scale for scale in SCALES if room >= scale or scale == 1)
    width, height = (-(-side // scale) for side in size)
    try:
        # the smallest scale that gives at least this: as this is what `scale` gives, that one
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            file, "RGB", min_height=height, min_width=width
        )
    except ValueError:  # libjpeg warned, which Pillow may overlook
        return None
    if pixels.shape[:2] != (height, width):
        return None
    if (height, width) == (target.height, target.width):
        return pixels
    return np.asarray(fitted(Image.fromarray(pixels), target))
