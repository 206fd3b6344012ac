"""The header of a JPEG 2000 file or codestream: size, cost, and whether its pixels are read.

Pillow rounds components of more than 8 bits up, and white becomes 0. It does not scale those of
fewer. Only 16 bits of grey are right.
"""

from __future__ import annotations

from dataclasses import dataclass

from offramp.images.boxes import boxes
from offramp.images.errors import DamagedFileError, UnsupportedPixelsError
from offramp.images.jpeg2000.codestream import CODESTREAM, Component, read_codestream
from offramp.images.jpeg2000.cost import Cost, cost_of

GREY_BITS = 16  # most of grey that is read


@dataclass(frozen=True, slots=True)
class Jpeg2000:
    """The header of a JPEG 2000 file: width and height in pixels, and its cost."""

    width: int
    height: int
    cost: Cost


def read_jpeg2000(file: bytes) -> Jpeg2000:
    """Read the header of a JPEG 2000 file or codestream.

    Raises:
        struct.error: The header is cut off.
        DamagedFileError: There is no codestream, or a header is damaged.
        UnsupportedPixelsError: The depth or number of components is not read.
        CostlyFileError: It has too many boxes, tiles, packets, code blocks or precincts.
    """
    start, depth = 0, None
    if not file.startswith(CODESTREAM):
        start, depth = _in_boxes(file)
    if file[start : start + len(CODESTREAM)] != CODESTREAM:
        raise DamagedFileError("this JPEG 2000 file is cut off")
    found = read_codestream(file, start)
    _check_depths(found.components, depth)
    x0, y0, x1, y1 = found.image
    return Jpeg2000(x1 - x0, y1 - y0, cost_of(found, len(file)))


def _in_boxes(file: bytes) -> tuple[int, int]:
    """Return the position of the codestream in a file, and the bits that the file states."""
    depth: int | None = None
    for kind, begin, end in boxes(file, 0, len(file)):
        if kind == b"jp2c":
            return begin, depth or 0
        if kind == b"jp2h" and depth is None:
            depth = _stated_depth(file, begin, end)
    raise DamagedFileError("this JPEG 2000 file has no image")


def _stated_depth(file: bytes, begin: int, end: int) -> int:
    depth = 0
    for kind, at, after in boxes(file, begin, end):
        if kind == b"ihdr" and at + 11 <= after:
            depth = (file[at + 10] & 0x7F) + 1
    return depth


def _check_depths(components: tuple[Component, ...], stated: int | None) -> None:
    """Refuse the depths that Pillow scales wrongly.

    Args:
        components: Components of the codestream.
        stated: Bits that the file around it states, if there is one. Pillow reads 9 as 8.
    """
    wrong = [each.depth for each in components if each.depth != 8]
    if not wrong:
        return
    grey = len(components) == 1 and 8 < wrong[0] <= GREY_BITS
    if not grey or (stated is not None and stated < 10):
        raise UnsupportedPixelsError(
            f"JPEG 2000 with {max(wrong)} bits per component is not read; save it with 8 bits"
        )
