"""The formats that are read, in training and in service, by the first bytes of a file."""

from __future__ import annotations

import re
from functools import cache

from PIL import Image

PLUGINS = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "BMP": "BmpImagePlugin",
    "TIFF": "TiffImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",
}  # modules of Pillow by its name of the format
NAMES = "JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, PPM or AVIF"
_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the header after the file's own
_PPM = re.compile(rb"P[1-6]\s[\s\d#]")
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def format_of(file: bytes) -> str | None:
    """Return the format of a file by its first bytes, by Pillow's name. `None` for any other."""
    for start, name in _STARTS:
        if file.startswith(start):
            return name
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return "WEBP"
    if file[4:8] == b"ftyp":
        end = min(len(file), int.from_bytes(file[:4]), 256)
        brands = [file[8:12], *(file[at : at + 4] for at in range(16, end, 4))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIF" if any(brand in _HEIF for brand in brands) else None
    if file.startswith(_TIFF):
        return "TIFF" if file[8:10] != b"CR" else None  # a raw file of a camera
    if file[:2] == b"BM" and int.from_bytes(file[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return "PPM" if _PPM.match(file) else None


@cache
def is_read(name: str) -> bool:
    """Return whether files of this format can be read here. Loads what reads them."""
    if name == "HEIF":
        try:
            import pillow_heif  # optional, so imported where it is needed
        except ImportError:
            return False
        pillow_heif.register_heif_opener()
        return True
    __import__(f"PIL.{PLUGINS[name]}")
    return name in Image.OPEN
