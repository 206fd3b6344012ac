"""WebP files without what does not change the pixels of their first frame.

A lossless frame, or a lossless alpha, is refused if the tables of its codes take more memory than
the header of the file counts.
"""

from __future__ import annotations

import struct

from offramp.bundle.orientation import UPRIGHT, orientation_in
from offramp.images.errors import CostlyFileError, DamagedFileError
from offramp.images.vp8l import SIGNATURE, Budget, table_bytes
from offramp.images.without_metadata import Essence

MAX_CHUNKS = 2000  # before the second frame
# Bytes of the tables of codes that are allowed: always, for each pixel, and for each byte of the
# file. Encoders need up to 5 for each byte.
TABLES, TABLES_PER_PIXEL, TABLES_PER_BYTE = 1 << 20, 4, 8
WALK = 50.0  # work to read a symbol of a small image, where decoding a pixel of a PNG is 1
_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM")
_FRAME_HEADER = 16
MAX_STREAMS = 2  # lossless pixels, or their alpha
_Size = tuple[int, int]


def webp_size(file: bytes) -> _Size:
    """Return width and height of a WebP file.

    Raises:
        struct.error: The header is cut off.
    """
    kind = file[12:16]
    if kind == b"VP8X":
        return _sides(file, 24)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", file, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", file, 26)
    return width & 0x3FFF, height & 0x3FFF


def tables_allowed(file: bytes, area: int) -> int:
    """Return the most bytes of the tables of codes in a file. 0 if no part of it is lossless."""
    if not _has_codes(file):
        return 0
    return max(TABLES, TABLES_PER_PIXEL * area, TABLES_PER_BYTE * len(file))


def work_of_codes(file: bytes, area: int) -> float:
    """Return the work to read and to make the codes of a file."""
    return WALK * min(area / 8, Budget.of(area)) if _has_codes(file) else 0.0


def _has_codes(file: bytes) -> bool:
    # A name within other data only makes the bound lower.
    return file[12:16] == b"VP8L" or (
        file[12:16] == b"VP8X" and (b"VP8L" in file or b"ALPH" in file)
    )


def _sides(file: bytes, at: int) -> _Size:
    low = struct.unpack_from("<HBHB", file, at)
    return low[0] + (low[1] << 16) + 1, low[2] + (low[3] << 16) + 1


def webp_essence(file: bytes, size: _Size) -> Essence:
    """Return a WebP with its first frame, and without EXIF, XMP and profile.

    Args:
        file: Bytes of the file.
        size: Width and height in its header.

    Raises:
        DamagedFileError: A chunk is cut off, or a lossless image is damaged.
        CostlyFileError: It has more than 2,000 chunks before its last frame, or codes for more
            parts of a lossless image than encoders make.
    """
    codes = _Codes(file, size)
    if file[12:16] != b"VP8X":
        codes.add(file[12:16], file[20:], size)
        return Essence(file, UPRIGHT)
    kept, exif, xmp, frames, at = [_without_metadata(file)], b"", b"", 0, 20
    at += int.from_bytes(file[16:20], "little") + 1 & ~1
    chunks = 0
    while at + 8 <= len(file):
        kind, length = file[at : at + 4], int.from_bytes(file[at + 4 : at + 8], "little")
        after = at + 8 + length + (length & 1)
        frames += kind == b"ANMF"
        if kind in _PIXELS or (kind == b"ANMF" and frames == 1):
            kept.append(file[at:after])
            codes.add(kind, file[at + 8 : at + 8 + length], size)
        elif kind == b"EXIF":
            exif = exif or file[at + 8 : after]
        elif kind == b"XMP ":
            xmp = xmp or file[at + 8 : after]
        at, chunks = after, chunks + 1
        if chunks > MAX_CHUNKS and frames < 2:
            raise CostlyFileError(f"it has more than {MAX_CHUNKS} chunks; save it again")
        if chunks > MAX_CHUNKS:
            break  # a long animation
    body = b"".join(kept)
    return Essence(
        b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body, orientation_in(exif, xmp)
    )


class _Codes:
    """The codes of all lossless images of a file."""

    def __init__(self, file: bytes, size: _Size) -> None:
        self._area = size[0] * size[1]
        self._most = tables_allowed(file, self._area)
        self._budget = Budget(self._area)
        self._streams = 0

    def add(self, kind: bytes, content: bytes, size: _Size) -> None:
        """Check the codes of the images in a chunk."""
        if kind == b"ANMF" and len(content) > _FRAME_HEADER:
            self._add_frame(content)
        elif kind == b"VP8L" and len(content) > 5 and content[0] == SIGNATURE:
            bits = int.from_bytes(content[1:5], "little")
            self._check(content[5:], ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
        elif kind == b"ALPH" and content[:1] and content[0] & 3 == 1:
            self._check(content[1:], size)

    def _add_frame(self, frame: bytes) -> None:
        size, at = _sides(frame, 6), _FRAME_HEADER
        for _ in range(MAX_CHUNKS):
            if at + 8 > len(frame):
                return
            length = int.from_bytes(frame[at + 4 : at + 8], "little")
            kind = frame[at : at + 4]
            if kind != b"ANMF":
                self.add(kind, frame[at + 8 : at + 8 + length], size)
            at += 8 + length + (length & 1)
        raise CostlyFileError(f"its frame has more than {MAX_CHUNKS} chunks; save it again")

    def _check(self, stream: bytes, size: _Size) -> None:
        self._streams += 1
        if size[0] * size[1] > self._area or self._streams > MAX_STREAMS:
            raise DamagedFileError("a frame of this WebP is larger than its header says")
        if table_bytes(stream, *size, self._budget) > self._most:
            raise CostlyFileError("it has codes for too many blocks of pixels; save it again")


def _without_metadata(file: bytes) -> bytes:
    """Return the chunk VP8X with its 10 bytes alone, and no flags of profile, EXIF and XMP."""
    chunk = bytearray(file[12:30])
    if len(chunk) == 18:
        chunk[4:8] = struct.pack("<I", 10)
        chunk[8] &= ~0b00101100
    return bytes(chunk)
