"""PNG and GIF files without what does not change the pixels of their first frame.

Text, profiles and EXIF never reach a decoder, so that they cannot decide whether an image is read:
whatever their size, type or checksum. Of an animation only the first frame is kept.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from offramp.bundle.orientation import UPRIGHT, orientation_in, raw_profile
from offramp.images.errors import CostlyFileError, DamagedFileError

PNG_START = b"\x89PNG\r\n\x1a\n"
IDAT = b"IDAT"
IEND = b"\0\0\0\0IEND\xaeB`\x82"
MAX_PROFILE = 1 << 17  # bytes of a compressed EXIF text that are read
MAX_GIF_BLOCKS = 2000  # before the first frame
MAX_FRAME_CHUNKS = 512  # of a PNG, after its image: about 100 frames, and .3 ms
INFLATED = 1 << 14  # bytes of a PNG that are inflated at once, and most that they become
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a PNG, by the type of colour
# The first column and row of each pass of an interlaced PNG, and the steps to the next ones
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_OF_FRAMES = frozenset({b"fcTL", b"fdAT"})
_ORIENTING = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")


@dataclass(frozen=True, slots=True)
class Essence:
    """The part of a file that decides its pixels.

    Attributes:
        file: The file without everything else.
        orientation: Orientation, 1 to 8, as in EXIF.
    """

    file: bytes
    orientation: int


def png_essence(file: bytes) -> Essence:
    """Return a PNG with its critical chunks and its transparency.

    Raises:
        DamagedFileError: The transparency has a wrong checksum.
        CostlyFileError: It has far more chunks than writers make.
    """
    chunks, at, frames = _PngChunks(file), len(PNG_START), 0
    most = 4096 + len(file) // 512
    for number in count():
        if at + 8 > len(file):
            break  # the decoder says what is missing
        if number == most or frames == MAX_FRAME_CHUNKS:
            chunks.end_early(number)
            break
        after = at + 12 + int.from_bytes(file[at : at + 4])
        chunks.last = file[at + 4 : at + 8]
        if chunks.last in _OF_FRAMES:
            frames += chunks.image_ended
        else:
            chunks.add(at, after)
        if chunks.last == b"IEND":
            break
        at = after
    return Essence(b"".join(chunks.kept), orientation_in(chunks.exif, chunks.xmp))


def png_has_all_rows(file: bytes) -> bool:
    """Return whether the data of a PNG is enough for all of its rows. Inflates it.

    Pillow leaves rows black that are lacking where the data has a proper end.
    """
    lacking = _png_row_bytes(file)
    try:
        for found in _inflated(file):
            lacking -= found
            if lacking <= 0:
                return True
    except zlib.error:
        return True  # Pillow decides
    return False


def _inflated(file: bytes) -> Iterator[int]:
    """Yield the numbers of bytes that the data of a PNG becomes, part by part."""
    inflating, at = zlib.decompressobj(), len(PNG_START)
    while at + 8 <= len(file) and not inflating.eof:
        after = at + 12 + int.from_bytes(file[at : at + 4])
        for start in range(at + 8, after - 4, INFLATED) if file[at + 4 : at + 8] == IDAT else ():
            data = file[start : min(start + INFLATED, after - 4)]
            while data:
                yield len(inflating.decompress(data, INFLATED))
                data = inflating.unconsumed_tail
        at = after
    yield len(inflating.flush())


def _png_row_bytes(file: bytes) -> int:
    """Return the bytes of all rows of a PNG, each with its filter, in all passes."""
    width, height, depth, colour = struct.unpack_from(">IIBB", file, 16)
    bits = depth * _CHANNELS.get(colour, 1)
    found = 0
    for left, top, across, down in _PASSES if file[28] else ((0, 0, 1, 1),):
        columns, rows = (width - left + across - 1) // across, (height - top + down - 1) // down
        if columns > 0:
            found += max(0, rows) * (1 + (columns * bits + 7) // 8)
    return found


class _PngChunks:
    """The chunks of a PNG: those that are kept, and those with its orientation."""

    def __init__(self, file: bytes) -> None:
        self._file = file
        self.kept = [PNG_START]
        self.last = self.exif = self.xmp = b""

    @property
    def image_ended(self) -> bool:
        """Return whether the latest chunk that is kept is one of the image."""
        return self.kept[-1][4:8] == IDAT

    def add(self, at: int, after: int) -> None:
        kind = self.last
        critical = not kind[0] & 32  # its first letter is a capital
        if kind == b"tRNS":
            self.kept.append(_transparency(self._file, at, after))
        elif critical and (kind != b"IHDR" or at == len(PNG_START)):
            self.kept.append(self._file[at:after])
        elif kind in _ORIENTING:
            content = self._file[at + 8 : after - 4]
            self.exif, self.xmp = _oriented(kind, content, self.exif, self.xmp)

    def end_early(self, most: int) -> None:
        """End the file where a long animation follows the image."""
        if not self.image_ended or self.last == IDAT:
            raise CostlyFileError(f"it has more than {most} chunks; save it again")
        self.kept.append(IEND)


def _transparency(file: bytes, at: int, after: int) -> bytes:
    """Return the chunk, with a grey of fewer than 8 bits scaled as Pillow scales the pixels."""
    content = file[at + 4 : after - 4]
    if zlib.crc32(content) != int.from_bytes(file[after - 4 : after]):
        raise DamagedFileError("the transparency of this PNG has a wrong checksum")
    depth, colour = file[24], file[25]
    if colour == 0 and depth in (1, 2, 4) and len(content) == 6:
        level = int.from_bytes(content[4:]) & ((1 << depth) - 1)
        content = b"tRNS" + struct.pack(">H", level * 255 // ((1 << depth) - 1))
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _oriented(kind: bytes, content: bytes, exif: bytes, xmp: bytes) -> tuple[bytes, bytes]:
    if kind == b"eXIf":
        return content, xmp
    keyword, _, text = content[: MAX_PROFILE + 80].partition(b"\0")
    if kind == b"iTXt" and keyword == b"XML:com.adobe.xmp":
        return exif, text
    if keyword == b"Raw profile type exif" and not exif and kind != b"iTXt":
        try:
            read = (
                zlib.decompressobj().decompress(text[1:], MAX_PROFILE) if kind == b"zTXt" else text
            )
        except zlib.error:
            return exif, xmp
        return raw_profile(read), xmp
    return exif, xmp


def gif_essence(file: bytes) -> Essence:
    """Return a GIF without comments and applications before its first frame.

    Raises:
        DamagedFileError: There is no frame.
        CostlyFileError: More than `MAX_GIF_BLOCKS` blocks come before the first frame.
    """
    flags = file[10] if len(file) > 12 else 0
    start = at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    control, blocks = b"", 0
    while file[at : at + 1] == b"!":
        begin, graphic = at, file[at + 1 : at + 2] == b"\xf9"
        at += 2
        while at < len(file) and file[at]:
            at += 1 + file[at]
            blocks += 1
            if blocks > MAX_GIF_BLOCKS:
                raise CostlyFileError(
                    f"more than {MAX_GIF_BLOCKS} blocks come before its first frame; save it again"
                )
        at += 1
        blocks += 1
        control = file[begin:at] if graphic else control
    if file[at : at + 1] != b",":
        raise DamagedFileError("this GIF has no frame, or is damaged")
    return Essence(file[:start] + control + file[at:], UPRIGHT)
