"""Sizes of images in files of boxes: JPEG 2000, AVIF and HEIC.

Source: ISO/IEC 15444-1, annex I, and ISO/IEC 14496-12 and 23008-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from offramp.images.errors import CostlyFileError, DamagedFileError

CODESTREAM = b"\xff\x4f\xff\x51"
MAX_BOXES = 1000
MAX_TILES = 1024


def jpeg2000_size(file: bytes) -> tuple[int, int]:
    """Return width and height of a JPEG 2000 file or codestream.

    Raises:
        DamagedFileError: There is no codestream, or its header is cut off.
        CostlyFileError: It has more than 1,000 boxes, or more than 1,024 tiles.
    """
    start = 0
    if not file.startswith(CODESTREAM):
        found = [begin for kind, begin, _ in _boxes(file, 0, len(file)) if kind == b"jp2c"]
        if not found:
            raise DamagedFileError("this JPEG 2000 file has no image")
        start = found[0]
    if file[start : start + 4] != CODESTREAM or len(file) < start + 42:
        raise DamagedFileError("this JPEG 2000 file is cut off")
    x1, y1, x0, y0, across, down, tile_x, tile_y = struct.unpack_from(">8I", file, start + 8)
    if not (x0 < x1 and y0 < y1 and across and down and tile_x <= x0 and tile_y <= y0):
        raise DamagedFileError("the size of this JPEG 2000 file is damaged")
    if -(-(x1 - tile_x) // across) * -(-(y1 - tile_y) // down) > MAX_TILES:
        raise CostlyFileError(f"it has more than {MAX_TILES} tiles; save it with fewer")
    return x1 - x0, y1 - y0


def heif_size(file: bytes) -> tuple[int, int]:
    """Return width and height of the largest image in an AVIF or HEIC file.

    Raises:
        DamagedFileError: It has no size.
        CostlyFileError: It has more than 1,000 boxes, or as many images.
    """
    for kind, begin, end in _boxes(file, 0, len(file)):
        if kind == b"meta":
            return _largest(file, begin, end)
    raise DamagedFileError("this image has no header")


def _largest(file: bytes, begin: int, end: int) -> tuple[int, int]:
    best, at = (0, 0), begin
    for _ in range(MAX_BOXES):
        at = file.find(b"ispe", at, end)
        if at < 0:
            break
        size = file[at + 8 : at + 16]
        if len(size) == 8:
            width, height = struct.unpack(">2I", size)
            best = max(best, (width, height), key=lambda each: each[0] * each[1])
        at += 4
    else:
        raise CostlyFileError(f"it has more than {MAX_BOXES} images; save the first alone")
    if not all(best):
        raise DamagedFileError("this image has no size in its header")
    return best


def _boxes(file: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box."""
    for _ in range(MAX_BOXES):
        if at + 8 > end:
            return
        size, kind, start = int.from_bytes(file[at : at + 4]), file[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(file[at + 8 : at + 16]), at + 16
        after = end if size == 0 else at + size
        if after < start:
            return
        yield kind, start, min(after, end)
        at = after
    raise CostlyFileError(f"it has more than {MAX_BOXES} boxes; save it again")
