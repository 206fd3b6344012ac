"""The orientation of an image, read from EXIF or XMP without reading anything else of them.

Only tag 0x0112 is read. Other tags can have any type, count or offset. Nothing is rewritten.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress

from PIL import Image

TAG = 0x0112
EXIF_START = b"Exif\x00\x00"
MAX_ENTRIES = 4096  # of a directory that are searched
_BYTE_ORDERS = {b"II": "<", b"MM": ">"}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}  # by EXIF type
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
UPRIGHT = 1
TRANSPOSED = (5, 6, 7, 8)  # orientations that exchange width and height
_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation_in(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation, 1 to 8, that EXIF or else XMP data gives. 1 if it gives none.

    Args:
        exif: EXIF data: a TIFF header and directory, with or without its prefix.
        xmp: An XMP packet. It counts if there is no tag in `exif`, as in Pillow.
    """
    found = _tag_in(exif.removeprefix(EXIF_START))
    if found is None and (match := _XMP.search(xmp)):
        found = int(match[1])
    return found if found in _METHODS else UPRIGHT


def orientation_of(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, of an image that Pillow opened."""
    exif = image.info.get("exif")
    if exif is None and isinstance(text := image.info.get("Raw profile type exif"), str):
        exif = raw_profile(text.encode(errors="replace"))
    xmp = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    if isinstance(xmp, str):
        xmp = xmp.encode(errors="replace")
    return orientation_in(
        exif if isinstance(exif, bytes) else b"", xmp if isinstance(xmp, bytes) else b""
    )


def raw_profile(text: bytes) -> bytes:
    """Return the EXIF data in a text `Raw profile type exif`, as ImageMagick writes it."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Return an image turned upright."""
    method = _METHODS.get(orientation)
    return image if method is None else image.transpose(method)


def _tag_in(tiff: bytes) -> int | None:
    order = _BYTE_ORDERS.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    (at,) = struct.unpack_from(order + "I", tiff, 4)
    if at + 2 > len(tiff):
        return None
    (count,) = struct.unpack_from(order + "H", tiff, at)
    found = None
    for entry in range(at + 2, at + 2 + 12 * min(count, MAX_ENTRIES), 12):
        if entry + 12 > len(tiff):
            break
        tag, kind, number = struct.unpack_from(order + "HHI", tiff, entry)
        if tag == TAG and number and kind in _INTEGERS:
            with suppress(struct.error):
                (found,) = struct.unpack_from(order + _INTEGERS[kind], tiff, entry + 8)
    return found
