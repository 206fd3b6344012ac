"""The boxes of JPEG 2000, AVIF and HEIC files, and the size of an AVIF or HEIC image.

Source: ISO/IEC 15444-1, annex I, and ISO/IEC 14496-12 and 23008-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from offramp.images.errors import CostlyFileError, DamagedFileError

MAX_BOXES = 1000


def boxes(file: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each box.

    Raises:
        CostlyFileError: There are more than 1,000 boxes.
    """
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


def heif_size(file: bytes) -> tuple[int, int]:
    """Return width and height of the largest image in an AVIF or HEIC file.

    Raises:
        DamagedFileError: It has no size.
        CostlyFileError: It has more than 1,000 boxes, or as many images.
    """
    for kind, begin, end in boxes(file, 0, len(file)):
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
