"""Format, size and cost of an image file, from its header alone.

The cost bounds what a decoder does before it starts. It has two parts: the memory and the work. A
JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that is enough.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from offramp.bundle.orientation import TRANSPOSED, UPRIGHT
from offramp.images.boxes import heif_size
from offramp.images.errors import DamagedFileError, UnknownFormatError, UnsupportedPixelsError
from offramp.images.formats import NAMES, format_of, is_read
from offramp.images.jpeg import Jpeg, read_jpeg, work_of_scans
from offramp.images.jpeg2000.header import Jpeg2000, read_jpeg2000
from offramp.images.memory import TURN, of_file, of_jpeg, of_tiff
from offramp.images.tiff import COMPRESSION, HEIGHT, JPEG, WIDTH, Tiff, read_tiff
from offramp.images.webp import webp_essence, webp_size, work_of_codes
from offramp.images.without_metadata import Essence, gif_essence, png_essence

# A JPEG is decoded at 1/8, 1/4, 1/2 or 1/1 of its size, by the times that it is as large as needed.
SCALES = (1, 1, 2, 2, 4, 4, 4, 4, 8)
# Time to decode a pixel, where that of a PNG is 1 (up to 30 ns): the worst found of each format.
WORK = {
    "PNG": 1.0, "GIF": 1.0, "BMP": 1.0, "TIFF": 1.0, "PPM": 1.0, "JPEG": 1.0,
    "WEBP": 1.3, "AVIF": 1.3, "HEIF": 2.0, "JPEG2000": 16.0,
}  # fmt: skip
DEEP = 1.25  # times as much for 16 bits
ROW = 2.0  # more for each row
FREE = 4  # pixels of a PNG, for each byte of it, that are within all bounds of memory
_PNG_START = 26  # bytes of signature and header, up to the kind of colours
_RAW_BMP = (0, 3, 6)  # compressions: none, and masks of the colours
_PPM = re.compile(rb"P([456])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})"
                  rb"(?:(?:\s|#[^\n]*\n)+(\d{1,9}))?\s")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an image file.

    Attributes:
        format: Format, by Pillow's name.
        width: Pixels, before the image is turned upright.
        height: Pixels, before the image is turned upright.
        memory: Bytes of memory to decode it, at most.
        decoded: Pixels of the decoded image, before it is brought to the target's size.
        work: Time to decode it, where a pixel of a PNG is 1.
        detail: More of the header of a JPEG, TIFF, GIF or JPEG 2000.
    """

    format: str
    width: int
    height: int
    memory: int
    decoded: int
    work: float
    detail: Jpeg | Tiff | Jpeg2000 | Essence | None = None

    def essence(self, file: bytes) -> Essence:
        """Return the part of the file that decides its pixels, and the orientation.

        Raises:
            ImageFileError: It is damaged, or has too many parts.
        """
        if isinstance(self.detail, Essence):
            return self.detail
        if isinstance(self.detail, Jpeg | Tiff):
            return Essence(self.detail.essence(file), self.detail.orientation)
        if self.format == "PNG":
            return png_essence(file)
        if self.format == "WEBP":
            return webp_essence(file, (self.width, self.height))
        return Essence(file, UPRIGHT)


def upright_size(header: Header, essence: Essence) -> tuple[int, int]:
    """Return width and height in pixels after the image was turned upright."""
    size = header.width, header.height
    return (size[1], size[0]) if essence.orientation in TRANSPOSED else size


def _format_of(file: bytes) -> str:
    name = format_of(file)
    if name is None or (name == "PNG" and len(file) < _PNG_START):
        raise UnknownFormatError(f"this is not a {NAMES} image; convert it to one")
    if not is_read(name):
        install = "install pillow-heif, or " if name == "HEIF" else ""
        raise UnknownFormatError(f"{name} images are not read here; {install}convert it to JPEG")
    return name


def read_header(file: bytes, side: int) -> Header:
    """Read the header of an image file.

    Args:
        file: Bytes of the file.
        side: Smallest width and height, in pixels, to decode it at.

    Raises:
        UnknownFormatError: The bytes are not an image of a format that is read.
        DamagedFileError: The header is cut off or damaged.
        UnsupportedPixelsError: The kind of pixels is not read.
        CostlyFileError: The header has too many parts.
    """
    name = _format_of(file)
    if name == "JPEG":
        return _jpeg(file, side)
    try:
        width, height, detail = _SIZES[name](file)
    except struct.error as error:
        raise DamagedFileError(f"the header of this {name} file is cut off") from error
    area = width * height
    if not area:
        raise DamagedFileError(f"the size of this {name} file is 0")
    deep = DEEP if name == "PNG" and file[24] == 16 else 1.0
    work = WORK[name] * deep * area + ROW * height
    if isinstance(detail, Tiff):
        work += _jpeg_in_tiff(file, detail)
        memory = float(of_tiff(detail, area))
    elif isinstance(detail, Jpeg2000):
        work, memory = max(work, detail.cost.work), detail.cost.memory
    else:
        work += work_of_codes(file, area) if name == "WEBP" else 0.0
        memory = _memory(name, file, area)
    return Header(name, width, height, int(memory), area, work, detail)


def _memory(name: str, file: bytes, area: int) -> float:
    """Return the bytes of memory to decode an image of so many pixels, and to turn it."""
    memory = of_file(name, file, area)
    if name == "PNG" and area > FREE * len(file):
        memory += TURN * area * (png_essence(file).orientation != UPRIGHT)
    return memory


def _jpeg(file: bytes, side: int) -> Header:
    found = read_jpeg(file)
    width, height = found.width, found.height
    scale = scale_of(min(width, height), side)
    decoded = -(-width // scale) * -(-height // scale)
    blocks = 0
    if found.has_many_scans(file):  # all coefficients are kept
        blocks = sum(found.blocks(each) for each in found.components)
    memory = of_jpeg(decoded, blocks, found.orientation)
    work = decoded + work_of_scans(file, found)
    return Header("JPEG", width, height, memory, decoded, work, found)


def scale_of(shorter: int, side: int) -> int:
    """Return the reduction at which a JPEG is decoded, as Pillow chooses it."""
    return SCALES[min(shorter // side, 8)]


_Size = tuple[int, int, Tiff | Jpeg2000 | Essence | None]


def _png(file: bytes) -> _Size:
    if file[12:16] == b"CgBI":
        raise UnsupportedPixelsError("PNGs of iOS apps (CgBI) are not read; save it as a plain PNG")
    return *struct.unpack_from(">II", file, 16), None


def _gif(file: bytes) -> _Size:
    width, height = struct.unpack_from("<HH", file, 6)
    found = gif_essence(file)
    flags = found.file[10]
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    while found.file[at] == 0x21:  # the graphic control: blocks of a length each
        at += 2
        while found.file[at]:
            at += 1 + found.file[at]
        at += 1
    left, top, across, down = struct.unpack_from("<4H", found.file, at + 1)
    return max(width, left + across), max(height, top + down), found


def _bmp(file: bytes) -> _Size:
    (size,) = struct.unpack_from("<I", file, 14)
    if size == 12:
        return *struct.unpack_from("<HH", file, 18), None
    width, height, _, _, compression = struct.unpack_from("<iiHHI", file, 18)
    if compression not in _RAW_BMP:
        raise UnsupportedPixelsError("compressed BMP files are not read; save it without or as PNG")
    return abs(width), abs(height), None


def _tiff(file: bytes) -> _Size:
    found = read_tiff(file)
    return found.values[WIDTH], found.values[HEIGHT], found


def _jpeg2000(file: bytes) -> _Size:
    found = read_jpeg2000(file)
    return found.width, found.height, found


def _ppm(file: bytes) -> _Size:
    found = _PPM.match(file[:1024])
    if found is None or (found[1] != b"4" and found[4] is None):
        raise UnsupportedPixelsError("only binary PPM, PGM and PBM files are read; save it as PNG")
    if found[1] != b"4" and int(found[4]) not in ((255, 65535) if found[1] == b"5" else (255,)):
        raise UnsupportedPixelsError(
            f"PPM with values up to {int(found[4])} is not read; save it with 255, or as PNG"
        )
    return int(found[2]), int(found[3]), None


def _jpeg_in_tiff(file: bytes, found: Tiff) -> float:
    """Return the work of all scans of the JPEGs in a TIFF: each is as large as a strip."""
    if found.values.get(COMPRESSION) != JPEG:
        return 0.0
    area = found.values[WIDTH] * found.values[HEIGHT]
    return file.count(b"\xff\xda") * 4 * area / 64 * 4 / max(1, found.strips)


_SIZES: dict[str, Callable[[bytes], _Size]] = {
    "PNG": _png,
    "GIF": _gif,
    "BMP": _bmp,
    "WEBP": lambda file: (*webp_size(file), None),
    "TIFF": _tiff,
    "PPM": _ppm,
    "JPEG2000": _jpeg2000,
    "AVIF": lambda file: (*heif_size(file), None),
    "HEIF": lambda file: (*heif_size(file), None),
}
