"""Depths of components: those that Pillow scales wrongly are refused."""

from __future__ import annotations

import pytest

from offramp.images.errors import DamagedFileError, UnsupportedPixelsError
from offramp.images.header import read_header
from offramp.images.jpeg2000.header import read_jpeg2000
from tests.offramp.images.jpeg2000.streams import Stream, boxed, written

SIGNED = 0x80


@pytest.mark.parametrize("bits", [1, 4, 7, 9, 10, 12, 16, 24])
@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_other_depths_are_refused(bits: int, number: int) -> None:
    depths = bytes([bits - 1 | SIGNED] * number)
    stream = Stream(depths=depths).encoded()
    for file in (stream, boxed(stream, number, bits - 1)):
        if number == 1 and 8 < bits <= 16 and not (bits == 9 and file != stream):
            assert read_jpeg2000(file).width == 64
            continue
        with pytest.raises(UnsupportedPixelsError, match=f"{bits} bits .* save it with 8 bits"):
            read_header(file, 64)


def test_one_component_of_another_depth_is_refused() -> None:
    for depths in (b"\x07\x07\x0b", b"\x07\x07\x07\x00"):
        with pytest.raises(UnsupportedPixelsError, match="bits per component is not read"):
            read_jpeg2000(Stream(depths=depths).encoded())


def test_grey_whose_file_states_fewer_bits_is_refused() -> None:
    with pytest.raises(UnsupportedPixelsError, match="12 bits per component"):
        read_jpeg2000(boxed(Stream(depths=b"\x0b").encoded(), 1, 7))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_8_bits_are_read(mode: str) -> None:
    found = read_jpeg2000(written(64, mode))
    assert (found.width, found.height) == (64, 64)


def test_a_file_without_a_codestream_is_damaged() -> None:
    file = boxed(Stream().encoded(), 3, 7)
    for damaged in (file[: file.index(b"jp2c") - 4], file.replace(b"\xff\x4f\xff\x51", bytes(4))):
        with pytest.raises(DamagedFileError):
            read_jpeg2000(damaged)
