"""TIFF files: size and compression from the first directory, and the file with that one alone.

Source: TIFF 6.0, and BigTIFF.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from offramp.bundle.orientation import UPRIGHT
from offramp.images.errors import CostlyFileError, DamagedFileError, UnsupportedPixelsError

MAX_ENTRIES = 1000
MAX_STRIPS = 20_000  # and tiles; Pillow handles each by itself
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLE_FORMAT = (
    256, 257, 258, 259, 262, 274, 339,
)  # fmt: skip
STRIPS, TILES = 273, 324
# All tags that decide pixels: the others are left out, and the orientation is applied apart.
_KEPT = frozenset(
    {254, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 266, STRIPS, 277, 278, 279, 284, 292, 293,
     317, 320, 321, 322, 323, TILES, 325, 332, 334, 338, SAMPLE_FORMAT, 347, 529, 530, 531, 532}
)  # fmt: skip
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}
JPEG = 7
COMPRESSIONS = {
    1: "none", 2: "CCITT", 3: "CCITT 3", 4: "CCITT 4", 5: "LZW", JPEG: "JPEG", 8: "deflate",
    32773: "PackBits", 32946: "deflate",
}  # fmt: skip


class Entry(NamedTuple):
    """An entry of a directory, as it is in the file."""

    tag: int
    kind: int
    number: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Tiff:
    """The first directory of a TIFF file.

    Attributes:
        order: Byte order, for `struct`.
        big: BigTIFF, with 8-byte offsets.
        entries: The entries that decide pixels.
        values: First value of each integer tag.
        strips: Number of strips or tiles.
        orientation: Orientation, 1 to 8.
    """

    order: str
    big: bool
    entries: tuple[Entry, ...]
    values: dict[int, int]
    strips: int
    orientation: int

    def essence(self, file: bytes) -> bytes:
        """Return the file with a new directory of the kept entries. Offsets stay as they are."""
        order, big = self.order, self.big
        directory = b"".join(each.raw for each in self.entries)
        count = struct.pack(order + ("Q" if big else "H"), len(self.entries))
        gap = b"\0" * (len(file) & 1)
        offset = struct.pack(order + ("Q" if big else "I"), len(file) + len(gap))
        head, after = (file[:8], 16) if big else (file[:4], 8)
        last = b"\0" * (8 if big else 4)
        return b"".join([head, offset, file[after:], gap, count, directory, last])


def read_tiff(file: bytes) -> Tiff:
    """Read the first directory of a TIFF file.

    Raises:
        DamagedFileError: The directory is cut off.
        CostlyFileError: It has more than 1,000 entries, or more than 20,000 strips.
        UnsupportedPixelsError: The compression, or the kind of samples, is not read.
    """
    order = "<" if file[:2] == b"II" else ">"
    try:
        big = struct.unpack_from(order + "H", file, 2)[0] == 43
        entries = list(_entries(file, order, big))
    except struct.error as error:
        raise DamagedFileError("this TIFF is cut off") from error
    values = {each.tag: _first(file, order, each, big) for each in entries if each.kind in _CODES}
    strips = max((each.number for each in entries if each.tag in (STRIPS, TILES)), default=0)
    if strips > MAX_STRIPS:
        raise CostlyFileError(f"it has {strips} strips, at most {MAX_STRIPS} are read")
    _check(values)
    kept = tuple(each for each in entries if each.tag in _KEPT)
    turn = values.get(ORIENTATION, UPRIGHT)
    return Tiff(order, big, kept, values, strips, turn if 1 <= turn <= 8 else UPRIGHT)


def _entries(file: bytes, order: str, big: bool) -> list[Entry]:  # noqa: FBT001 (of the file)
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), file, 8 if big else 4)
    at = min(at, len(file))  # past the end is cut off
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), file, at)
    if count > MAX_ENTRIES:
        raise CostlyFileError(f"its directory has {count} entries, at most {MAX_ENTRIES} are read")
    form, size = (order + "HHQ8s", 20) if big else (order + "HHI4s", 12)
    first = at + (8 if big else 2)
    entries = []
    for start in range(first, first + size * count, size):
        tag, kind, number, _ = struct.unpack_from(form, file, start)
        entries.append(Entry(tag, kind, number, file[start : start + size]))
    return entries


def _first(file: bytes, order: str, entry: Entry, big: bool) -> int:  # noqa: FBT001 (of the file)
    room = 8 if big else 4
    where = entry.raw[-room:]
    if not entry.number:
        return 0
    if _SIZES[entry.kind] * entry.number > room:
        (at,) = struct.unpack(order + ("Q" if big else "I"), where)
        where = file[at : at + 8]
    try:
        return int(struct.unpack_from(order + _CODES[entry.kind], where)[0])
    except struct.error:
        return 0


def _check(values: dict[int, int]) -> None:
    if not values.get(WIDTH) or not values.get(HEIGHT):
        raise DamagedFileError("this TIFF has no size; save it again")
    compression = values.get(COMPRESSION, 1)
    if compression not in COMPRESSIONS:
        raise UnsupportedPixelsError(
            f"TIFF compression {compression} is not read; save it with LZW or deflate, or as PNG"
        )
    bits, samples = values.get(BITS, 1), values.get(SAMPLE_FORMAT, 1)
    if bits <= 8 and samples == 2:
        raise UnsupportedPixelsError("signed 8-bit pixels have no known scale; save it unsigned")
    if bits > 8 and values.get(PHOTOMETRIC) == 0:
        raise UnsupportedPixelsError(
            f"{bits}-bit grey where 0 is white is not read; save it with 0 as black"
        )
