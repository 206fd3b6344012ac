from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offramp.bundle.manifest import ImageInput
from offramp.images.decode import decode_essence
from offramp.images.errors import DamagedFileError
from offramp.images.header import read_header
from offramp.images.without_metadata import png_has_all_rows

TARGET = ImageInput(height=8, width=8, fit="stretch", filter="bilinear")
STEPS = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))  # fmt: skip
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(1, 0), (2, 0), (8, 0), (16, 0), (8, 2), (16, 2), (4, 3), (8, 3), (8, 4), (16, 6)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def rows(width: int, height: int, bits: int, interlaced: bool, value: int) -> list[bytes]:
    found = []
    for left, top, across, down in STEPS if interlaced else ((0, 0, 1, 1),):
        columns = len(range(left, width, across))
        row = b"\0" + bytes([value]) * (-(-columns * bits // 8))
        found += [row] * len(range(top, height, down)) if columns else []
    return found


def png(size: tuple[int, int], kind: tuple[int, int], data: bytes, interlaced: bool) -> bytes:
    header = struct.pack(">IIBBBBB", *size, *kind, 0, 0, interlaced)
    packed = zlib.compress(data)
    half = len(packed) // 2
    palette = chunk(b"PLTE", bytes(range(48)) * 16) if kind[1] == 3 else b""
    parts = chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + parts + chunk(b"IEND", b"")


def decode(file: bytes) -> NDArray[np.uint8]:
    header = read_header(file, 16)
    return decode_essence(header, header.essence(file), TARGET)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from(KINDS), st.booleans(),
    st.sampled_from([0, 0x11, 0xFF]),
)  # fmt: skip
def test_a_png_that_lacks_a_row_is_damaged_and_a_whole_one_is_read(
    width: int,
    height: int,
    kind: tuple[int, int],
    interlaced: bool,
    value: int,
) -> None:
    whole = rows(width, height, kind[0] * CHANNELS[kind[1]], interlaced, value)
    file = png((width, height), kind, b"".join(whole), interlaced)
    assert decode(file).shape == (8, 8, 3)
    assert png_has_all_rows(file)
    with pytest.raises(DamagedFileError):
        decode(png((width, height), kind, b"".join(whole[:-1]), interlaced))


def test_data_after_the_last_row_is_ignored() -> None:
    whole = rows(30, 30, 24, interlaced=False, value=0)
    assert (
        decode(png((30, 30), (8, 2), b"".join(whole) + bytes(999), interlaced=False)) == 0
    ).all()


def test_all_of_a_large_black_png_is_counted() -> None:
    data = rows(3000, 1000, 24, interlaced=False, value=0)
    assert png_has_all_rows(png((3000, 1000), (8, 2), b"".join(data), interlaced=False))
    assert not png_has_all_rows(png((3000, 1000), (8, 2), b"".join(data[:-1]), interlaced=False))
