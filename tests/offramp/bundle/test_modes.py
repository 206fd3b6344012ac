from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from PIL import Image

from offramp.bundle.modes import PixelsError, rescaled, to_rgb
from offramp.bundle.orientation import turned
from tests.offramp.tiffs import Values, tiff


def opened(values: Any, form: str = "TIFF") -> Image.Image:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return Image.open(io.BytesIO(buffer.getvalue()))


def png(depth: int, rows: bytes, transparency: bytes) -> Image.Image:
    """Return an opened grey PNG of 4 x 1 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 4, 1, depth, 0, 0, 0, 0)
    body = (
        chunk(b"IHDR", header) + chunk(b"tRNS", transparency) + chunk(b"IDAT", zlib.compress(rows))
    )
    return Image.open(io.BytesIO(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")))


def test_floats_from_0_to_1_are_scaled_by_255() -> None:
    values = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    assert np.asarray(to_rgb(opened(values)))[0, :, 1].tolist() == [0, 64, 128, 255]


@pytest.mark.parametrize("odd", [-0.1, 1.5, 255.0, np.nan, np.inf, -np.inf])
def test_other_floats_are_an_error_with_a_remedy(odd: float) -> None:
    with pytest.raises(PixelsError, match="no known scale; only 0 to 1 is read"):
        to_rgb(opened(np.array([[0.5, odd]], np.float32)))


def test_small_32_bit_integers_are_kept() -> None:
    values = np.array([[0, 20, 255]], np.int32)
    assert np.asarray(to_rgb(opened(values)))[0, :, 2].tolist() == [0, 20, 255]


@pytest.mark.parametrize("odd", [-1, 256, 0x10100, 2**31 - 1])
def test_other_32_bit_integers_are_an_error(odd: int) -> None:
    with pytest.raises(PixelsError, match=r"32-bit integers from .* have no known scale"):
        to_rgb(opened(np.array([[0, odd]], np.int32)))


@pytest.mark.parametrize("orientation", [1, 6])
def test_unsigned_integers_are_stated_as_they_are(orientation: int) -> None:
    tags = {256: (2,), 257: (1,), 258: (32,), 259: (1,), 262: (1,), 277: (1,)}
    image = opened_tiff(tags, struct.pack("<2I", 7, 3_000_000_000))
    with pytest.raises(PixelsError, match="32-bit integers from 7 to 3000000000 have no"):
        to_rgb(turned(rescaled(image), orientation))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_bits(form: str) -> None:
    values = np.array([[0, 255, 256, 65535]], np.uint16)
    assert np.asarray(to_rgb(opened(values, form)))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_the_transparent_value_of_16_bit_grey_is_transparent() -> None:
    image = png(16, b"\0" + struct.pack(">4H", 0x8000, 0x8001, 0, 65535), b"\x80\x00")
    got = np.asarray(to_rgb(image))
    assert got[0, :, 3].tolist() == [0, 255, 255, 255]
    assert got[0, :, 0].tolist() == [128, 128, 0, 255]


def test_other_modes_are_an_error_that_names_them() -> None:
    with pytest.raises(PixelsError, match="mode LAB are not converted; save it as 8-bit RGB"):
        to_rgb(Image.new("LAB", (4, 4)))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("RGBX", (1, 2, 3, 4), (1, 2, 3)),
        ("YCbCr", (0, 128, 128), (0, 0, 0)),
    ],
)
def test_modes_of_8_bits_are_converted(mode: str, colour: Any, expected: tuple[int, ...]) -> None:
    assert to_rgb(Image.new(mode, (4, 4), colour)).getpixel((1, 1)) == expected


def opened_tiff(tags: Mapping[int, Values], pixels: bytes) -> Image.Image:
    return Image.open(io.BytesIO(tiff(tags, pixels)))


GREY_12: dict[int, Values] = {256: (2,), 257: (1,), 258: (12,), 259: (1,), 262: (1,), 277: (1,)}


def test_12_bit_grey_keeps_its_high_bits() -> None:
    image = opened_tiff(GREY_12, bytes((0xFF, 0xF0, 0x1F)))
    assert image.mode == "I;16"
    assert np.asarray(to_rgb(rescaled(image)))[0, :, 0].tolist() == [255, 1]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("unit", [1, 257])
def test_a_colour_map_has_8_bits_if_all_values_are_below_256(bits: int, unit: int) -> None:
    colours = [0] * (3 << bits)
    for plane, value in enumerate((200, 60, 20)):
        colours[(plane << bits) + 1] = value * unit
    tags: dict[int, Values] = {256: (1,), 257: (1,), 258: (bits,), 259: (1,), 262: (3,), 277: (1,)}
    image = opened_tiff({**tags, 320: tuple(colours)}, bytes([1 << 8 - bits]))
    assert to_rgb(rescaled(image)).getpixel((0, 0)) == (200, 60, 20)
    assert rescaled(image) is image or unit == 1
