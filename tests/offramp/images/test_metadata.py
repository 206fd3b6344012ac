"""Metadata beside the pixels never decides whether a file is read, and its orientation is used."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.images.decode import decode_essence
from offramp.images.errors import DamagedFileError
from offramp.images.header import read_header

TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
TAG = 0x0112
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}


def decoded(file: bytes) -> NDArray[np.uint8]:
    header = read_header(file, 64)
    return decode_essence(header, header.essence(file), TARGET)


def encoded(form: str, **options: Any) -> bytes:
    """Return an image that is red on the left and blue on the right."""
    image = Image.new("RGB", (64, 64), (220, 30, 30))
    image.paste((30, 30, 220), (32, 0, 64, 64))
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def exif_of(entries: list[tuple[int, int, int, bytes]], order: str) -> bytes:
    at, data = 8 + 2 + 12 * len(entries) + 4, b""
    body = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(order + "HHI", tag, kind, count)
        if len(value) <= 4:
            body += value.ljust(4, b"\0")
        else:
            body += struct.pack(order + "I", at + len(data))
            data += value
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "I", 8) + body + b"\0" * 4 + data


def with_exif(form: str, exif: bytes) -> bytes:
    file = encoded(form, **({"quality": 95} if form == "JPEG" else {"lossless": True}))
    if form == "JPEG":
        exif = b"Exif\0\0" + exif
        return file[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + file[2:]
    if form == "PNG":
        return file[:33] + chunk(b"eXIf", exif) + file[33:]
    head = struct.pack("<4sIB3x", b"VP8X", 10, 8) + b"\x3f\0\0\x3f\0\0"
    body = (
        head + file[12:] + b"EXIF" + struct.pack("<I", len(exif)) + exif + b"\0" * (len(exif) & 1)
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def chunk(kind: bytes, data: bytes, wrong: int = 0) -> bytes:
    checksum = zlib.crc32(kind + data) ^ wrong
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def assert_red_above_blue(pixels: NDArray[np.uint8]) -> None:
    assert pixels[4, 16, 0] > 180 > 80 > pixels[4, 16, 2]
    assert pixels[28, 16, 2] > 180 > 80 > pixels[28, 16, 0]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["JPEG", "PNG", "WEBP"]),
    st.sampled_from("<>"),
    st.lists(
        st.tuples(
            st.sampled_from([0x100, 0x103, 0x11A, 0x128, 0x132, 0x8769, 0x8825, 0x9286, 0xEA1C]),
            st.integers(0, 14),
            st.integers(0, 40),
            st.binary(max_size=40),
        ),
        max_size=6,
    ),
    st.data(),
)
def test_no_other_tag_of_exif_decides(
    form: str, order: str, odd: list[tuple[int, int, int, bytes]], data: st.DataObject
) -> None:
    entries = list(odd)
    turn = (TAG, 3, 1, struct.pack(order + "H", 6))
    entries.insert(data.draw(st.integers(0, len(odd))), turn)
    assert_red_above_blue(decoded(with_exif(form, exif_of(entries, order))))


@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_exif_of_any_bytes_is_read_or_ignored(form: str, exif: bytes) -> None:
    assert decoded(with_exif(form, exif)).shape == (32, 32, 3)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"eXIf", b"abCd"])
@pytest.mark.parametrize("content", [b"", b"a\0\0", b"k\0" + bytes(3 << 20)])
@pytest.mark.parametrize("wrong", [0, 1])
def test_no_ancillary_chunk_of_a_png_decides(kind: bytes, content: bytes, wrong: int) -> None:
    file = encoded("PNG")
    other = file[:33] + chunk(kind, content, wrong) + file[33:]
    np.testing.assert_array_equal(decoded(other), decoded(file))


def test_a_compressed_text_of_a_gigabyte_is_not_inflated() -> None:
    file = encoded("PNG")
    text = zlib.compress(bytes(64 << 20), 9)
    bomb = file[:33] + b"".join(chunk(b"zTXt", b"k\0\0" + text) for _ in range(16)) + file[33:]
    np.testing.assert_array_equal(decoded(bomb), decoded(file))


def test_transparency_with_a_wrong_checksum_is_damage() -> None:
    file = encoded("PNG")
    with pytest.raises(DamagedFileError, match="wrong checksum"):
        decoded(file[:33] + chunk(b"tRNS", bytes(6), 1) + file[33:])


@pytest.mark.parametrize("marker", [0xE1, 0xE2, 0xE3, 0xED, 0xFE])
@pytest.mark.parametrize("start", [b"", b"ICC_PROFILE\0\x01\x07", b"MPF\0II*\0", b"Exif\0\0MM"])
def test_no_other_segment_of_a_jpeg_decides(marker: int, start: bytes) -> None:
    file = encoded("JPEG")
    content = start + bytes(range(256)) * 200
    segment = b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content
    np.testing.assert_array_equal(decoded(file[:2] + segment * 20 + file[2:]), decoded(file))


@pytest.mark.parametrize(("marker", "start"), [(0xE0, b"JFIF\0"), (0xEE, b"Adobe")])
@given(rest=st.binary(max_size=8))
def test_a_short_segment_of_colours_is_ignored(marker: int, start: bytes, rest: bytes) -> None:
    """libjpeg reads JFIF from 14 bytes on, and Adobe's from 12."""
    file = encoded("JPEG", quality=95)
    content = (start + rest)[:11]
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    got = decoded(file[:2] + segment + file[2:])
    np.testing.assert_array_equal(got, decoded(file))


def test_an_error_has_no_address_of_an_object() -> None:
    file = bytearray(encoded("PNG"))
    file[29] ^= 1  # the checksum of the header
    with pytest.raises(DamagedFileError) as raised:
        decoded(bytes(file))
    assert str(raised.value) == "Pillow cannot read its header as PNG"


@pytest.mark.parametrize("tag", [0x10F, 0x11A, 0x128, 0x8769, 0x8773, 700, 34377])
@pytest.mark.parametrize("kind", [0, 2, 5, 7, 99])
@pytest.mark.parametrize("orientation", [1, 6])
def test_no_other_tag_of_a_tiff_decides(tag: int, kind: int, orientation: int) -> None:
    file = encoded("TIFF")
    (at,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, at)
    entries = file[at + 2 : at + 2 + 12 * count]
    odd = struct.pack("<HHII", tag, kind, 1 << 20, 1 << 30)
    turn = struct.pack("<HHIHH", TAG, 3, 1, orientation, 0)
    directory = struct.pack("<H", count + 2) + entries + turn + odd + bytes(4)
    changed = file[:4] + struct.pack("<I", len(file)) + file[8:] + directory
    got = decoded(changed)
    if orientation == 6:
        assert_red_above_blue(got)
    else:
        np.testing.assert_array_equal(got, decoded(file))
