"""Image files of every format that the server reads, and files that it must refuse."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

LARGE = (640, 427)  # width, height
TOO_LARGE = (5001, 5000)  # width, height: more than the server's default of 25 million pixels
MOST_PIXELS = 0xFFFF  # largest width and height that a JPEG can declare
ORIENTATION, ROTATED = 0x0112, 6  # EXIF: the tag, and a quarter turn


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    """Return an image as a file of Pillow's format `form`."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def readable_files(file: bytes) -> dict[str, bytes]:
    """Return one image encoded in every way that the server reads, by name.

    Args:
        file: Image file in any format of Pillow's.
    """
    image = Image.open(io.BytesIO(file)).convert("RGB")
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    deep = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    turned = [image.rotate(90), image.rotate(180)]
    return {
        "JPEG": encode(image, "JPEG", quality=90),
        "JPEG, 4:4:4": encode(image, "JPEG", quality=95, subsampling=0),
        "JPEG, progressive": encode(image, "JPEG", progressive=True),
        "JPEG, gray": encode(image.convert("L"), "JPEG"),
        "JPEG, CMYK": encode(image.convert("CMYK"), "JPEG"),
        "JPEG, rotated by EXIF": encode(image, "JPEG", exif=exif),
        "JPEG, large": encode(image.resize(LARGE), "JPEG"),
        "JPEG, tall": encode(image.resize((40, 300)), "JPEG"),
        "PNG": encode(image, "PNG"),
        "PNG, alpha": encode(image.convert("RGBA"), "PNG"),
        "PNG, palette": encode(image.convert("P"), "PNG"),
        "PNG, gray": encode(image.convert("L"), "PNG"),
        "PNG, 1 bit": encode(image.convert("1"), "PNG"),
        "PNG, 16 bits": encode(deep, "PNG"),
        "PNG, one pixel": encode(image.resize((1, 1)), "PNG"),
        "PNG, wide": encode(image.resize((200, 3)), "PNG"),
        "PNG, large": encode(image.resize(LARGE), "PNG"),
        "WebP": encode(image, "WEBP"),
        "WebP, lossless": encode(image, "WEBP", lossless=True),
        "WebP, alpha": encode(image.convert("RGBA"), "WEBP"),
        "WebP, animated": encode(image, "WEBP", save_all=True, append_images=turned),
    }


def unreadable_files(file: bytes) -> dict[str, bytes]:
    """Return files that the server must refuse, by name.

    Args:
        file: Image file in any format of Pillow's.
    """
    image = Image.open(io.BytesIO(file)).convert("RGB")
    jpeg, png, webp = (encode(image, form) for form in ("JPEG", "PNG", "WEBP"))
    at = png.index(b"IDAT")
    return {
        "no bytes": b"",
        "text": b"hello",
        "noise": np.random.default_rng(0).bytes(3000),
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "half a PNG": png[: len(png) // 2],
        "half a WebP": webp[: len(webp) // 2],
        "first bytes of a JPEG": jpeg[:3],
        "first bytes of a PNG": png[:8],
        "first bytes of a WebP": webp[:16],
        "PNG with a wrong checksum": png[: at + 8] + bytes(4) + png[at + 12 :],
        "too large PNG": encode(Image.new("1", TOO_LARGE), "PNG"),
        "too large JPEG": with_size(jpeg, MOST_PIXELS, MOST_PIXELS),
        "JPEG of no pixels": with_size(jpeg, 0, 0),
    }


def with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Return a baseline JPEG that declares another size, with the same pixels."""
    at = jpeg.index(b"\xff\xc0") + 5  # after the marker, the length and the precision
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]
