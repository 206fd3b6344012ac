"""The header of a JPEG: size, orientation, and the work of all its scans.

A progressive JPEG can have thousands of scans, and each passes over all blocks of its components.
So the scans are counted before any pixel is decoded. Segments that do not change pixels (EXIF,
XMP, profiles, comments) are left out of what decoders read.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from offramp.bundle.orientation import EXIF_START, orientation_in
from offramp.images.errors import CostlyFileError, DamagedFileError, UnsupportedPixelsError

SOI = b"\xff\xd8"
CUT_OFF = "the header of this JPEG is cut off or damaged"
MAX_SEGMENTS = 2000  # before the first scan
MAX_SCAN_SEGMENTS = 400  # scans and their tables. Writers make a few tens
MAX_EXIF = 1 << 16  # bytes; the orientation comes early in them
SOS, EOI, COMMENT, APP0, APP1, APP14, APP15 = 0xDA, 0xD9, 0xFE, 0xE0, 0xE1, 0xEE, 0xEF
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}  # the last: JPEG-LS
_READ_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA})  # by libjpeg-turbo
HUFFMAN = frozenset({BASELINE, EXTENDED, PROGRESSIVE})
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a length
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})
_SKIPPED = frozenset(range(APP0, APP15 + 1)) | {COMMENT}
_AFTER_ENTROPY = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_JFIF, _ADOBE = (b"JFIF\0", 14), (b"Adobe", 12)  # starts, and least bytes of what libjpeg reads
XMP_START = b"http://ns.adobe.com/xap/1.0/\x00"
# Work of one pass over a block, where decoding a pixel of a PNG is 1. A refining scan looks at all
# coefficients of a block. Arithmetic coding needs no bits for most of them.
FIRST_PASS, REFINING_PASS, ARITHMETIC_PASS = 1.0, 8.0, 24.0


class Component(NamedTuple):
    """A component of the frame: its number, and its sampling across and down."""

    number: int
    across: int
    down: int


@dataclass(frozen=True, slots=True)
class Jpeg:
    """The header of a JPEG.

    Attributes:
        width: Pixels, before the image is turned upright.
        height: Pixels, before the image is turned upright.
        frame: Marker of the frame: baseline, progressive and so on.
        components: Components of the frame.
        kept: Spans of the file with the segments that change pixels, before the first scan.
        scan: Position of the first scan.
        orientation: Orientation, 1 to 8, as in EXIF.
    """

    width: int
    height: int
    frame: int
    components: tuple[Component, ...]
    kept: tuple[tuple[int, int], ...]
    scan: int
    orientation: int

    def essence(self, file: bytes) -> bytes:
        """Return the file without the segments that do not change pixels."""
        return b"".join([SOI, *(file[start:end] for start, end in self.kept), file[self.scan :]])

    def blocks(self, component: Component) -> int:
        """Return the number of 8 x 8 blocks of a component."""
        most_across = max(each.across for each in self.components)
        most_down = max(each.down for each in self.components)
        across = -(-self.width * component.across // (8 * most_across))
        return across * -(-self.height * component.down // (8 * most_down))

    def has_many_scans(self, file: bytes) -> bool:
        """Return whether decoders keep all coefficients in memory, for several scans."""
        return self.frame not in (BASELINE, EXTENDED) or file[self.scan + 4] < len(self.components)


def read_jpeg(file: bytes) -> Jpeg:
    """Read the header of a JPEG, up to its first scan.

    Raises:
        DamagedFileError: The header is cut off or damaged.
        UnsupportedPixelsError: The kind of JPEG is not read.
        CostlyFileError: It has more than `MAX_SEGMENTS` segments.
    """
    at, segments = len(SOI), _Segments(file)
    for _ in range(MAX_SEGMENTS):
        if at + 4 > len(file) or file[at] != 0xFF:
            raise DamagedFileError(CUT_OFF)
        marker = file[at + 1]
        if marker == SOS:
            if at + 5 > len(file):  # without the number of components in the scan
                raise DamagedFileError(CUT_OFF)
            return segments.header(at)
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
        else:
            after = at + 2 + int.from_bytes(file[at + 2 : at + 4])
            segments.add(marker, at, after)
            at = after
    raise CostlyFileError(f"it has more than {MAX_SEGMENTS} segments; save it again")


class _Segments:
    """The segments before the first scan."""

    def __init__(self, file: bytes) -> None:
        self._file = file
        self._kept: list[tuple[int, int]] = []
        self._frame: tuple[int, bytes] | None = None
        self._exif = self._xmp = b""

    def add(self, marker: int, start: int, end: int) -> None:
        content = self._file[start + 4 : end]
        if marker == APP1 and content.startswith(EXIF_START):
            if len(self._exif) < MAX_EXIF:  # long data continues in the next segment
                self._exif += content[len(EXIF_START) :]
        elif marker == APP1 and content.startswith(XMP_START):
            self._xmp = content
        elif marker not in _SKIPPED or _decides_colors(marker, content):
            self._kept.append((start, end))
        if marker in FRAMES and self._frame is None:
            self._frame = marker, content

    def header(self, scan: int) -> Jpeg:
        if self._frame is None:
            raise DamagedFileError("this JPEG has no frame before its first scan")
        marker, frame = self._frame
        bits, number = (frame[0], frame[5]) if len(frame) > 5 else (8, 0)
        if marker not in _READ_FRAMES or number == 2 or bits != 8:
            raise UnsupportedPixelsError(
                f"JPEGs of kind {marker:X} with {bits} bits and {number} components are not read; "
                "save it as a baseline JPEG of 8 bits"
            )
        starts = range(6, 6 + 3 * number, 3)
        if not 1 <= number <= 4 or len(frame) < starts.stop:
            raise DamagedFileError("the frame of this JPEG is damaged")
        components = tuple(
            Component(frame[at], frame[at + 1] >> 4, frame[at + 1] & 15) for at in starts
        )
        height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
        samplings = [side for _, *sides in components for side in sides]
        if not height or not width or min(samplings) < 1 or max(samplings) > 4:
            raise DamagedFileError("the frame of this JPEG is damaged")
        turn = orientation_in(self._exif, self._xmp)
        return Jpeg(width, height, marker, components, tuple(self._kept), scan, turn)


def _decides_colors(marker: int, content: bytes) -> bool:
    """Return whether libjpeg reads the colours from a segment of an application."""
    if marker not in (APP0, APP14):
        return False
    start, least = _JFIF if marker == APP0 else _ADOBE
    return content.startswith(start) and len(content) >= least


def work_of_scans(file: bytes, header: Jpeg) -> float:
    """Return the work to decode all scans, where decoding a pixel of a PNG is 1.

    Raises:
        CostlyFileError: There are more than `MAX_SCAN_SEGMENTS` scans and tables.
    """
    blocks = {each.number: header.blocks(each) for each in header.components}
    whole = float(sum(blocks.values()))
    if not header.has_many_scans(file):
        return whole * (FIRST_PASS if header.frame in HUFFMAN else ARITHMETIC_PASS)
    work, at = 0.0, header.scan
    for _ in range(MAX_SCAN_SEGMENTS):
        marker, after = file[at + 1], at + 2 + int.from_bytes(file[at + 2 : at + 4])
        if marker == EOI:
            return work
        if marker == SOS:
            parts = file[at + 5 : at + 5 + 2 * file[at + 4] : 2] if at + 4 < len(file) else b""
            work += _pass(header, file[after - 1 : after]) * sum(
                blocks.get(part, whole) for part in parts
            )
        # A decoder that lost its place can skip an unknown marker without its segment.
        at = after if marker in _TABLES or marker in _SKIPPED or marker == SOS else at + 2
        found = _AFTER_ENTROPY.search(file, at)
        if found is None:
            return work
        at = found.start()
    raise CostlyFileError(f"it has more than {MAX_SCAN_SEGMENTS} scans and tables; save it again")


def _pass(header: Jpeg, approximation: bytes) -> float:
    if header.frame not in HUFFMAN:
        return ARITHMETIC_PASS
    refines = header.frame == PROGRESSIVE and approximation and approximation[0] >> 4
    return REFINING_PASS if refines else FIRST_PASS
