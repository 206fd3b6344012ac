"""Formats of files in a data set, recognised by their first bytes. Names decide nothing."""

from __future__ import annotations

from offramp.images.formats import PLUGINS, is_read
from offramp.images.formats import format_of as image_format

HEAD = 512  # bytes that recognise a file
IMAGE_FORMATS = (*PLUGINS, "HEIF")
PARQUET = "parquet"
_SIGNATURES = (
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
ARCHIVES = ("zip", "gzip", "bzip2", "xz", "7z", "rar", "zstd", "tar")


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
    return image_format(head) or ("tar" if head[257:262] == b"ustar" else None)


def not_read(name: str) -> str | None:
    """Return the reason for which images of a format are not read, or `None`."""
    if is_read(name):
        return None
    if name == "HEIF":
        return "is a HEIC image. Convert it to JPEG, or install pillow-heif"
    return f"is a {name} image, which this build of Pillow does not read"
