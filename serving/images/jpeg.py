"""Decode plain JPEGs with libjpeg-turbo, faster than Pillow and to the same pixels.

A plain JPEG is baseline or progressive, has 8 bits and YCbCr at 4:4:4, 4:2:2 or 4:2:0, and no
Adobe segment. Its orientation is applied. Other metadata is skipped. Pillow decodes all other files
and every damaged one (`offramp.images`). Its pixels are the reference, because the network was
trained on them.
"""

from __future__ import annotations

import re
import struct
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

# The markers of segments, with the byte 0xff before each.
FRAMES = (0xFFC0, 0xFFC2)  # baseline, progressive
SCAN, APP0, APP1, ADOBE = 0xFFDA, 0xFFE0, 0xFFE1, 0xFFEE
# Huffman and quantisation tables, restart interval, comment, and what applications add
SKIPPED = frozenset({0xFFC4, 0xFFDB, 0xFFDD, 0xFFFE, *range(APP1 + 1, 0xFFF0)}) - {ADOBE}
# Two numbers: marker and length (with the two bytes of itself) of a segment, or height and width.
read_pair = struct.Struct(">HH").unpack_from
JFIF = b"JFIF\0"
# Frame headers of three components of 8 bits. Each has a number, its sampling and a table. The
# sampling of luma is equal to that of chroma, twice across, or twice in both directions.
FRAME = re.compile(rb"\x08.{4}\x03.[\x11\x21\x22]..\x11..\x11.", re.DOTALL)
FRAME_OF_YCBCR = re.compile(rb"\x08.{4}\x03\x01[\x11\x21\x22].\x02\x11.\x03\x11.", re.DOTALL)
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
    at, frame_at, frame_end, progressive = len(SOI), 0, 0, False
    jfif, exif, xmp = False, b"", b""
    try:
        for _ in range(MAX_SEGMENTS):
            marker, length = read_pair(file, at)
            if marker not in SKIPPED:
                if marker == SCAN:
                    break
                if marker in FRAMES and not frame_at:
                    frame_at, frame_end, progressive = at + 4, at + 2 + length, marker == FRAMES[1]
                elif marker == APP0:
                    jfif = jfif or file.startswith(JFIF, at + 4)
                elif marker == APP1:
                    content = file[at + 4 : at + 2 + length]
                    if content.startswith(EXIF_START) and len(exif) < MAX_EXIF:
                        exif += content[len(EXIF_START) :]
                    elif content.startswith(XMP_START):
                        xmp = content
                else:
                    return None
            at += 2 + length
        else:
            return None
    except struct.error:  # the file ends in the header
        return None
    # Without JFIF, colours with other numbers can be RGB.
    frame = (FRAME if jfif else FRAME_OF_YCBCR).fullmatch(file, frame_at, frame_end)
    if frame is None or (progressive and file.count(b"\xff\xda", at) > MAX_SCANS):
        return None
    height, width = read_pair(file, frame_at + 1)
    if height < SMALLEST or width < SMALLEST:
        return None
    return Plain(width, height, orientation_in(exif, xmp) if exif or xmp else UPRIGHT)


def decode_plain(file: bytes, header: Plain, target: ImageInput) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG to the target's size, uint8 [H, W, 3]. `None` if the file is damaged.

    Args:
        file: A plain JPEG.
        header: Its header, from `read_plain`.
        target: Size of the result and the way to reach it.
    """
    across, down, orientation = header
    scale = scale_of(min(across, down), side_wanted(target))
    width, height = -(-across // scale), -(-down // scale)
    try:
        # decodes at the smallest scale that gives at least this size, which is `scale`
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            file, "RGB", min_height=height, min_width=width
        )
    except ValueError:  # libjpeg warned, and Pillow can ignore the warning
        return None
    if pixels.shape[:2] != (height, width):
        return None
    if orientation == UPRIGHT and height == target.height and width == target.width:
        return pixels
    return np.asarray(fitted(turned(Image.fromarray(pixels), orientation), target))
