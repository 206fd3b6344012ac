"""The headers of a JPEG 2000 codestream: its tiles, its components and how they are coded.

A tile can change how it is coded in each of its parts, so all headers of tile-parts are read.

Source: ISO/IEC 15444-1, annex A.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from offramp.images.errors import CostlyFileError, DamagedFileError, UnsupportedPixelsError

CODESTREAM = b"\xff\x4f\xff\x51"
MAX_TILES = 1024
MAX_SEGMENTS = 16_384  # of all headers; writers make a few for each tile-part
MAX_STYLES = 4  # ways to code a component
MAX_QUANTIZATIONS = 16
MAX_PLANES = 30  # bits of a coefficient that OpenJPEG decodes
BANDS = 97  # of 32 levels, and the last one
MAX_PROGRESSIONS = 32  # orders of packets, in OpenJPEG
COD, COC, QCD, QCC, RGN, POC = 0x52, 0x53, 0x5C, 0x5D, 0x5E, 0x5F
# Markers that change no bound: capabilities, lengths, packed headers, registration and comments
_OTHERS = frozenset({0x50, 0x55, 0x57, 0x58, 0x59, 0x60, 0x61, 0x63, 0x64})
_SOT, _SOD, _EOC = b"\xff\x90", b"\xff\x93", b"\xff\xd9"
_SOT_BYTES = 12
_WHOLE = (15, 15)  # precincts as large as the image
_SEGMENTED = 0x01 | 0x04 | 0x40  # passes end in the middle of a code block, or HTJ2K


class Component(NamedTuple):
    """A component of the image: its bits, and its steps across and down in pixels."""

    depth: int
    across: int
    down: int


class Style(NamedTuple):
    """The coding of a component.

    Attributes:
        block: Powers of two of the width and height of a code block.
        precincts: Powers of two of the width and height of a precinct, for each resolution.
        segmented: A code block can end after each pass.
    """

    block: tuple[int, int]
    precincts: tuple[tuple[int, int], ...]
    segmented: bool


@dataclass(frozen=True, slots=True)
class Codestream:
    """The headers of a codestream.

    Attributes:
        image: Left, top, right and bottom of the image.
        tiles: Left and top of the first tile, and width and height of each.
        components: Components of the image.
        styles: All ways to code a component, in any header.
        layers: Quality layers, at most.
        progressions: Orders in which packets are looked for, at most.
        planes: Bits of the coefficients of each band, at most.
    """

    image: tuple[int, int, int, int]
    tiles: tuple[int, int, int, int]
    components: tuple[Component, ...]
    styles: tuple[Style, ...]
    layers: int
    progressions: int
    planes: tuple[int, ...]


def read_codestream(file: bytes, start: int) -> Codestream:
    """Read the main header at `start`, and the headers of all tile-parts after it.

    Raises:
        struct.error: The main header is cut off.
        DamagedFileError: A header is damaged.
        UnsupportedPixelsError: A header has a marker that is not read.
        CostlyFileError: There are too many tiles, headers or styles.
    """
    length, *grid = struct.unpack_from(">H2x8I", file, start + 4)
    (number,) = struct.unpack_from(">H", file, start + 40)
    x1, y1, x0, y0, across, down, left, top = grid
    if not (x0 < x1 and y0 < y1 and across and down and left <= x0 and top <= y0):
        raise DamagedFileError("the size of this JPEG 2000 file is damaged")
    if -(-(x1 - left) // across) * -(-(y1 - top) // down) > MAX_TILES:
        raise CostlyFileError(f"it has more than {MAX_TILES} tiles; save it with fewer")
    if not 1 <= number <= 4:
        raise UnsupportedPixelsError(f"{number} components are not read; save it as RGB")
    sizes = struct.unpack_from(f">{3 * number}B", file, start + 42)
    components = tuple(
        Component((sizes[at] & 0x7F) + 1, *sizes[at + 1 : at + 3]) for at in range(0, len(sizes), 3)
    )
    if not all(each.across and each.down for each in components):
        raise DamagedFileError("the components of this JPEG 2000 file are damaged")
    found = _Headers()
    _read_tile_parts(file, found.read(file, start + 4 + length, _SOT), found)
    if not found.styles:
        raise DamagedFileError("this JPEG 2000 file does not say how it is coded")
    return Codestream(
        (x0, y0, x1, y1), (left, top, across, down), components, tuple(found.styles),
        found.layers, min(1 + found.progressions, MAX_PROGRESSIONS), tuple(found.planes()),
    )  # fmt: skip


def _read_tile_parts(file: bytes, at: int, found: _Headers) -> None:
    """Read the headers of all tile-parts. The decoder says which data lacks."""
    while file[at : at + 2] == _SOT:
        if len(file) < at + _SOT_BYTES:
            raise DamagedFileError("this JPEG 2000 file is cut off in the header of a tile")
        length = int.from_bytes(file[at + 6 : at + 10])
        data = found.read(file, at + _SOT_BYTES, _SOD) + len(_SOD)
        if not length:
            return  # up to the end of the file
        if at + length < data:
            raise DamagedFileError("the header of a tile of this JPEG 2000 file is damaged")
        at += length
    if at < len(file) and file[at : at + 2] != _EOC:
        raise DamagedFileError("no tile of this JPEG 2000 file begins where one should")


class _Headers:
    """The statements of all headers together: the most of each."""

    def __init__(self) -> None:
        self.styles: dict[Style, None] = {}
        self.layers = self.progressions = self._segments = self._shift = 0
        self._quantizations: dict[bytes, None] = {}

    def read(self, file: bytes, at: int, end: bytes) -> int:
        """Read the segments of a header, and return the position of the marker at its end."""
        while (marker := file[at : at + 2]) != end:
            length = int.from_bytes(file[at + 2 : at + 4])
            after = at + 2 + length
            if marker[:1] != b"\xff" or length < 2 or after > len(file):
                raise DamagedFileError("a header of this JPEG 2000 file is cut off or damaged")
            self._count()
            self._add(marker[1], file[at + 4 : after])
            at = after
        self._count()
        return at

    def planes(self) -> list[int]:
        """Return the bits of the coefficients of each band, with those of a region of interest."""
        most = [max(bands) for bands in zip(*map(_planes, self._quantizations), strict=True)]
        return [min(MAX_PLANES, each + self._shift) for each in most or [0] * BANDS]

    def _count(self) -> None:
        self._segments += 1
        if self._segments > MAX_SEGMENTS:
            raise CostlyFileError(f"it has more than {MAX_SEGMENTS} segments; save it again")

    def _add(self, marker: int, content: bytes) -> None:
        try:
            if marker == COD:
                self.layers = max(self.layers, int.from_bytes(content[2:4]))
                self._add_style(content[5:], precincts=bool(content[0] & 1))
            elif marker == COC:
                self._add_style(content[2:], precincts=bool(content[1] & 1))
            elif marker in (QCD, QCC):
                self._add_quantization(content[marker == QCC :])
            elif marker == RGN:
                self._shift = max(self._shift, content[2])
            elif marker == POC:
                self.progressions += len(content) // 7
            elif marker not in _OTHERS:
                raise UnsupportedPixelsError(
                    f"marker FF{marker:02X} of JPEG 2000 is not read; save it again, or as PNG"
                )
        except IndexError as error:
            raise DamagedFileError("a header of this JPEG 2000 file is cut off") from error

    def _add_style(self, content: bytes, *, precincts: bool) -> None:
        levels, block = content[0], (content[1] + 2, content[2] + 2)
        style, sizes = content[3], content[5 : 6 + content[0]]
        if levels > 32 or max(block) > 10 or sum(block) > 12:
            raise DamagedFileError("the coding style of this JPEG 2000 file is damaged")
        powers = tuple((size & 15, size >> 4) for size in sizes)
        if precincts and (len(powers) <= levels or any(0 in each for each in powers[1:])):
            raise DamagedFileError("the precincts of this JPEG 2000 file are damaged")
        powers = powers if precincts else (_WHOLE,) * (levels + 1)
        self.styles[Style(block, powers, bool(style & _SEGMENTED))] = None
        if len(self.styles) > MAX_STYLES:
            raise CostlyFileError(f"it has more than {MAX_STYLES} coding styles; save it again")

    def _add_quantization(self, content: bytes) -> None:
        if len(content) < 2:
            raise DamagedFileError("a quantization of this JPEG 2000 file is cut off")
        self._quantizations[content[: 1 + 2 * BANDS]] = None
        if len(self._quantizations) > MAX_QUANTIZATIONS:
            raise CostlyFileError(
                f"it has more than {MAX_QUANTIZATIONS} quantizations; save it again"
            )


def _planes(content: bytes) -> list[int]:
    """Return the bits of the coefficients of each band, of a quantization."""
    guard, kind = content[0] >> 5, content[0] & 31
    if kind == 1:  # one exponent, and that of each level is one less
        first = content[1] >> 3
        exponents = [first - max(0, band - 1) // 3 for band in range(BANDS)]
    else:
        entries = content[1 : 1 + BANDS] if kind == 0 else content[1 : 1 + 2 * BANDS : 2]
        exponents = [each >> 3 for each in entries]
    bits = [max(0, each + guard - 1) for each in exponents]
    return bits + [0] * (BANDS - len(bits))
