"""TIFF files: size and compression from the first directory, and the file with that one alone.

The first image of a raw file of a camera is a thumbnail, and such a file is not read.

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
MAX_VALUES = 16  # of any other tag; Pillow reads each by itself
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANES, SAMPLE_FORMAT = (
    256, 257, 258, 259, 262, 274, 277, 284, 339,
)  # fmt: skip
STRIPS, TILES = 273, 324
# All tags that decide pixels: the others are left out, and the orientation is applied apart.
_KEPT = frozenset(
    {254, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, 266, STRIPS, SAMPLES, 278, 279, PLANES,
     292, 293, 317, 320, 321, 322, 323, TILES, 325, 332, 334, 338, SAMPLE_FORMAT, 347, 529, 530,
     531, 532}
)  # fmt: skip
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
# Tags with more values: their kinds, and the most. The last are tables of a JPEG.
_ARRAYS = {
    **dict.fromkeys((STRIPS, 279, TILES, 325), ((3, 4, 16), MAX_STRIPS)),
    320: ((3,), 3 << 8), 347: ((1, 7), 1 << 16),
}  # fmt: skip
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}
RAW, JPEG, SEPARATE = 1, 7, 2
DEPTHS = frozenset({1, 2, 4, 8, 12, 16, 32})  # bits of a sample
COMPRESSIONS = {
    RAW: "none", 2: "CCITT", 3: "CCITT 3", 4: "CCITT 4", 5: "LZW", JPEG: "JPEG", 8: "deflate",
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
        start: Position of the directory.
        entries: The entries that decide pixels.
        values: First value of each integer tag.
        strips: Number of strips or tiles.
        orientation: Orientation, 1 to 8.
    """

    order: str
    big: bool
    start: int
    entries: tuple[Entry, ...]
    values: dict[int, int]
    strips: int
    orientation: int

    def essence(self, file: bytes) -> bytes:
        """Return the file with the kept entries alone in the place of its directory.

        The new directory is no longer, so that pixels which the file lacks are still lacking.
        """
        number = struct.pack(self.order + ("Q" if self.big else "H"), len(self.entries))
        last = b"\0" * (8 if self.big else 4)
        directory = b"".join([number, *(each.raw for each in self.entries), last])
        return file[: self.start] + directory + file[self.start + len(directory) :]


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
        start, entries = _entries(file, order, big)
        end = start + (8 + 20 * len(entries) if big else 2 + 12 * len(entries))
        more = any(file[end : end + (8 if big else 4)]) or any(each.tag == 330 for each in entries)
    except struct.error as error:
        raise DamagedFileError("this TIFF is cut off") from error
    values = {each.tag: _first(file, order, each, big) for each in entries if each.kind in _CODES}
    strips = max((each.number for each in entries if each.tag in (STRIPS, TILES)), default=0)
    if strips > MAX_STRIPS:
        raise CostlyFileError(f"it has {strips} strips, at most {MAX_STRIPS} are read")
    _check(values)
    if (values.get(254, 0) & 1 or values.get(255) == 2) and more:
        raise UnsupportedPixelsError(
            "its first image is the thumbnail of another one; convert the other one to JPEG"
        )
    kept = {each.tag: each for each in entries if each.tag in _KEPT}  # the last of equal tags
    for each in kept.values():
        _check_entry(each, order, big, (start, end))
    turn = values.get(ORIENTATION, UPRIGHT)
    turn = turn if 1 <= turn <= 8 else UPRIGHT
    return Tiff(order, big, start, tuple(kept.values()), values, strips, turn)


def _entries(  # the position of the directory, and its entries
    file: bytes,
    order: str,
    big: bool,  # noqa: FBT001 (of the file)
) -> tuple[int, list[Entry]]:
    (at,) = struct.unpack_from(order + ("Q" if big else "I"), file, 8 if big else 4)
    at = min(at, len(file))  # past the end is cut off
    if at < 8 * (1 + big):
        raise DamagedFileError("the directory of this TIFF lies in its header")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), file, at)
    if count > MAX_ENTRIES:
        raise CostlyFileError(f"its directory has {count} entries, at most {MAX_ENTRIES} are read")
    form, size = (order + "HHQ8s", 20) if big else (order + "HHI4s", 12)
    first = at + (8 if big else 2)
    entries = []
    for start in range(first, first + size * count, size):
        tag, kind, number, _ = struct.unpack_from(form, file, start)
        entries.append(Entry(tag, kind, number, file[start : start + size]))
    return at, entries


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


def _check_entry(entry: Entry, order: str, big: bool, span: tuple[int, int]) -> None:  # noqa: FBT001
    """Refuse values that take long to read, or that a shorter directory would change."""
    tag, kind, number, raw = entry
    kinds, most = _ARRAYS.get(tag, ((), MAX_VALUES))
    if number > MAX_VALUES and (number > most or kind not in kinds):
        raise CostlyFileError(
            f"its tag {tag} has {number} values of kind {kind}, more than are read; save it again"
        )
    size, room = _SIZES.get(kind, 0) * number, 8 if big else 4
    if size > room:
        (at,) = struct.unpack(order + ("Q" if big else "I"), raw[-room:])
        if at < span[1] and at + size > span[0]:
            raise DamagedFileError(f"the values of tag {tag} lie in the directory of this TIFF")


def _check(values: dict[int, int]) -> None:
    if not values.get(WIDTH) or not values.get(HEIGHT):
        raise DamagedFileError("this TIFF has no size; save it again")
    compression = values.get(COMPRESSION, RAW)
    if compression not in COMPRESSIONS:
        raise UnsupportedPixelsError(
            f"TIFF compression {compression} is not read; save it with LZW or deflate, or as PNG"
        )
    bits, samples = values.get(BITS, 1), values.get(SAMPLE_FORMAT, 1)
    if bits not in DEPTHS:
        raise UnsupportedPixelsError(f"{bits}-bit pixels are not read; save it with 8 or 16 bits")
    if bits <= 8 and samples == 2:
        raise UnsupportedPixelsError("signed 8-bit pixels have no known scale; save it unsigned")
    if bits > 8 and values.get(PHOTOMETRIC) == 0:
        raise UnsupportedPixelsError(
            f"{bits}-bit grey where 0 is white is not read; save it with 0 as black"
        )
    separate = values.get(PLANES) == SEPARATE and values.get(SAMPLES, 1) > 1
    if bits > 8 and separate and compression == RAW:  # Pillow reads each plane as 8 bits
        raise UnsupportedPixelsError(
            f"uncompressed separate planes of {bits} bits are not read; save it with interleaved "
            "samples or with LZW"
        )
