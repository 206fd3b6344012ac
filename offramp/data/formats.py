"""Formats of files, recognised by their first bytes. A file's name decides nothing."""

from __future__ import annotations

import struct

HEAD = 64  # bytes that recognise a file
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "PPM", "AVIF", "HEIF")
PARQUET = "parquet"
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the header after the file's
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"PAR1", PARQUET),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
ARCHIVES = ("zip", "gzip", "bzip2", "xz", "7z", "rar", "zstd")


def format_of(head: bytes) -> str | None:
    """Return the format that a file's first bytes show, or `None` for any other.

    Args:
        head: The first `HEAD` bytes of the file, or all where it has fewer.

    Returns:
        A name in `IMAGE_FORMATS` or `ARCHIVES`, or `PARQUET`.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    return _container(head) or _tiff(head) or _bmp(head) or _ppm(head)


def not_read(name: str) -> str | None:
    """Return the reason for which images of a format are not read, or `None`."""
    from PIL import Image, features

    Image.init()
    if name == "AVIF" and not features.check("avif"):
        return "is an AVIF image, which this build of Pillow does not read"
    if name == "HEIF" and "HEIF" not in Image.OPEN:
        return "is a HEIC image, which Pillow does not read. Convert it to JPEG or PNG"
    if name == "JPEG2000" and not features.check("jpg_2000"):
        return "is a JPEG 2000 image, which this build of Pillow does not read"
    return None


def _container(head: bytes) -> str | None:
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] != b"ftyp":
        return None
    end = min(len(head), struct.unpack(">I", head[:4])[0])
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, end, 4))]
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    return "HEIF" if any(brand in _HEIF_BRANDS for brand in brands) else None


def _tiff(head: bytes) -> str | None:
    tiff = head[:4] in (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
    return "TIFF" if tiff and head[8:10] != b"CR" else None  # CR: raw files of Canon


def _bmp(head: bytes) -> str | None:
    if head[:2] != b"BM" or len(head) < 18:
        return None
    return "BMP" if struct.unpack("<I", head[14:18])[0] in _BMP_HEADERS else None


def _ppm(head: bytes) -> str | None:
    ppm = head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()
    return "PPM" if ppm and (head[3:4].isdigit() or head[3:4] in b"# \t\r\n") else None
