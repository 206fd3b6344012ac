"""The header of a JPEG 2000 file or codestream: size and cost."""

from __future__ import annotations

from dataclasses import dataclass

from offramp.images.boxes import boxes
from offramp.images.errors import DamagedFileError
from offramp.images.jpeg2000.codestream import CODESTREAM, read_codestream
from offramp.images.jpeg2000.cost import Cost, cost_of


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
        UnsupportedPixelsError: The number of components is not read.
        CostlyFileError: It has too many boxes, tiles, packets, code blocks or precincts.
    """
    start = 0
    if not file.startswith(CODESTREAM):
        found = [begin for kind, begin, _ in boxes(file, 0, len(file)) if kind == b"jp2c"]
        if not found:
            raise DamagedFileError("this JPEG 2000 file has no image")
        start = found[0]
    if file[start : start + len(CODESTREAM)] != CODESTREAM:
        raise DamagedFileError("this JPEG 2000 file is cut off")
    stream = read_codestream(file, start)
    x0, y0, x1, y1 = stream.image
    return Jpeg2000(x1 - x0, y1 - y0, cost_of(stream, len(file)))
