"""Decode plain JPEGs with libjpeg-turbo, faster than Pillow and to the same pixels.

A plain JPEG is baseline or progressive, has 8 bits and YCbCr at 4:4:4, 4:2:2 or 4:2:0, and no
Adobe segment. Its orientation is applied. Other metadata is skipped. Pillow decodes all other files
and every damaged one (`offramp.images`). Its pixels are the reference, because the network was
trained on them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.orientation import EXIF_START, UPRIGHT, orientation_in, turned
from offramp.bundle.preprocess import fitted, side_wanted
from offramp.images.header import scale_of
from offramp.images.jpeg import MAX_EXIF, MAX_SEGMENTS, SOI, XMP_START

FRAMES = (0xC0, 0xC2)  # baseline, progressive
SCAN, APP0, APP1, ADOBE = 0xDA, 0xE0, 0xE1, 0xEE
# Huffman and quantisation tables, restart interval, comment, and what applications add
SKIPPED = frozenset({0xC4, 0xDB, 0xDD, 0xFE, *range(APP0, 0xF0)}) - {ADOBE}
SAMPLINGS = (
    0x11,
    0x21,
    0x22,
)  # of luma relative to chroma: equal, twice across, twice in both directions
SMALLEST = 8  # pixels of a side; below, several scales give the same size
MAX_SCANS = 64  # of a progressive JPEG; encoders make about ten


class Plain(NamedTuple):
    """Size in pixels of a plain JPEG, before it is turned, and its orientation as in EXIF."""

    width: int
    height: int
    orientation: int = UPRIGHT


def read_plain(file: bytes) -> Plain | None:  # noqa: C901 (one loop: small images wait for it)
    """Read the header of a plain JPEG. `None` for any other file."""
    if not file.startswith(SOI):
        return None
    at, frame, marker, jfif, exif, xmp = len(SOI), b"", 0, False, b"", b""
    progressive = False
    for _ in range(MAX_SEGMENTS):
        if file[at : at + 1] != b"\xff" or at + 4 > len(file):
            return None
        marker, end = file[at + 1], at + 2 + int.from_bytes(file[at + 2 : at + 4])
        if marker == SCAN:
            break
        if marker in FRAMES and not frame:
            frame, progressive = file[at + 4 : end], marker == FRAMES[1]
        elif marker == APP1:
            content = file[at + 4 : end]
            if content.startswith(EXIF_START) and len(exif) < MAX_EXIF:
                exif += content[len(EXIF_START) :]
            elif content.startswith(XMP_START):
                xmp = content
        elif marker not in SKIPPED:
            return None
        elif marker == APP0:
            jfif = jfif or file[at + 4 : at + 9] == b"JFIF\0"
        at = end
    if marker != SCAN or (progressive and file.count(b"\xff\xda", at) > MAX_SCANS):
        return None
    orientation = orientation_in(exif, xmp) if exif or xmp else UPRIGHT
    return _of_frame(frame, orientation, jfif=jfif)


def _of_frame(frame: bytes, orientation: int, *, jfif: bool) -> Plain | None:
    """Read a frame header.

    It has precision, height, width, and for each component number, sampling and table.
    """
    if len(frame) != 15 or frame[0] != 8 or frame[5] != 3:
        return None
    if frame[7] not in SAMPLINGS or not frame[10] == frame[13] == 0x11:
        return None
    if not jfif and frame[6:15:3] != b"\x01\x02\x03":  # else the colours can be RGB
        return None
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    return Plain(width, height, orientation) if min(width, height) >= SMALLEST else None


def decode_plain(file: bytes, header: Plain, target: ImageInput) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG to the target's size, uint8 [H, W, 3]. `None` if the file is damaged.

    Args:
        file: A plain JPEG.
        header: Its header, from `read_plain`.
        target: Size of the result and the way to reach it.
    """
    scale = scale_of(min(header.width, header.height), side_wanted(target))
    width, height = -(-header.width // scale), -(-header.height // scale)
    try:
        # decodes at the smallest scale that gives at least this size, which is `scale`
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            file, "RGB", min_height=height, min_width=width
        )
    except ValueError:  # libjpeg warned, and Pillow can ignore the warning
        return None
    if pixels.shape[:2] != (height, width):
        return None
    if header.orientation == UPRIGHT and (height, width) == (target.height, target.width):
        return pixels
    return np.asarray(fitted(turned(Image.fromarray(pixels), header.orientation), target))
