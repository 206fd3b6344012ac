"""Lossless WebP files are refused if their codes take far more memory than encoders make."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.images.decode import decode_essence
from offramp.images.errors import CostlyFileError, DamagedFileError, ImageFileError
from offramp.images.header import read_header

TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
Wrap = Callable[[bytes, int, int], bytes]


def essence(file: bytes) -> bytes:
    return read_header(file, 64).essence(file).file


def lossless(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=True, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)


def riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def extended(flags: int, width: int, height: int, body: bytes) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides) + body)


def vp8l(stream: bytes, width: int, height: int) -> bytes:
    size = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return chunk(b"VP8L", b"\x2f" + size + stream)


def alpha(stream: bytes, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "WEBP")
    return chunk(b"ALPH", b"\x01" + stream) + buffer.getvalue()[12:]


def frame(content: bytes, width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return chunk(b"ANIM", bytes(6)) + chunk(b"ANMF", bytes(6) + sides + bytes(4) + content)


WRAPS: dict[str, Wrap] = {
    "VP8L": lambda stream, w, h: riff(vp8l(stream, w, h)),
    "VP8X": lambda stream, w, h: extended(0x10, w, h, vp8l(stream, w, h)),
    "ALPH": lambda stream, w, h: extended(0x10, w, h, alpha(stream, w, h)),
    "ANMF": lambda stream, w, h: extended(0x12, w, h, frame(vp8l(stream, w, h), w, h)),
    "ALPH in ANMF": lambda stream, w, h: extended(0x12, w, h, frame(alpha(stream, w, h), w, h)),
}


def grouped(groups: int) -> bytes:
    """Return a stream of 256 x 256 black pixels in blocks of 4 x 4, with so many groups of codes.

    All codes of a group are of one symbol, 0. So pixels have no bits.
    """
    bits = ["0", "0", "1", "000"]  # no transform, no cache of colours, and groups of 4 x 4
    bits += ["0", *[literals(280), literals(256)], *["1000"] * 3]  # codes of the groups' numbers
    numbers = [min(block, groups - 1) for block in range(64 * 64)]
    bits += [f"{number & 255:08b}{number >> 8:08b}" for number in numbers]
    bits += ["1000"] * 5 * groups
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8][::-1], 2) for at in range(0, len(text), 8))


def literals(symbols: int) -> str:
    """Return the bits of a code in which 256 symbols have 8 bits each, and all others have 0."""
    order = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8]
    lengths = "".join("100" if symbol in (0, 8) else "000" for symbol in order)
    return "0" + f"{len(order) - 4:04b}"[::-1] + lengths + "0" + "1" * 256 + "0" * (symbols - 256)


@pytest.mark.parametrize("name", WRAPS)
def test_few_groups_of_codes_are_read(name: str) -> None:
    file = WRAPS[name](grouped(20), 256, 256)
    header = read_header(file, 64)
    got = decode_essence(header, header.essence(file), TARGET)
    assert (got == got[0, 0]).all()


@pytest.mark.parametrize("name", WRAPS)
def test_a_group_of_codes_for_each_block_is_refused(name: str) -> None:
    file = WRAPS[name](grouped(4096), 256, 256)
    with pytest.raises(CostlyFileError, match="codes for too many blocks"):
        essence(file)


def test_blocks_far_smaller_than_those_of_encoders_are_refused() -> None:
    stream = grouped(20)
    with pytest.raises(CostlyFileError, match="blocks are smaller"):
        essence(riff(vp8l(stream, 4096, 4096)))


def test_a_frame_larger_than_the_header_is_damaged() -> None:
    file = extended(0x10, 8, 8, vp8l(grouped(2), 256, 256))
    with pytest.raises(DamagedFileError, match="larger than its header"):
        essence(file)


def test_a_stream_behind_a_longer_header_is_checked() -> None:
    """A decoder that skips more of the header than the check would find another stream."""
    stream = vp8l(grouped(4096), 256, 256)
    file = bytearray(extended(0x10, 256, 256, chunk(b"ANIM", stream)))
    file[16] += 8
    with pytest.raises(CostlyFileError, match="codes for too many blocks"):
        essence(bytes(file))


def test_many_lossless_streams_are_refused() -> None:
    file = extended(0x10, 256, 256, alpha(grouped(2), 256, 256) * 3)
    with pytest.raises(DamagedFileError):
        essence(file)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.sampled_from(["RGB", "RGBA"]),
    st.sampled_from([2, 5, 200, 256]),
    st.integers(0, 6),
    st.integers(0, 100),
)
def test_every_lossless_image_of_the_encoder_is_read(
    width: int, height: int, mode: str, levels: int, method: int, quality: int
) -> None:
    rng = np.random.default_rng(width)
    values = rng.integers(0, levels, (height, width, len(mode)), dtype=np.uint8)
    values[: height // 2] = values[:1]
    file = lossless(Image.fromarray(values), method=method, quality=quality, exact=True)
    header = read_header(file, 64)
    decoded = Image.open(io.BytesIO(header.essence(file).file))
    np.testing.assert_array_equal(np.asarray(decoded.convert(mode)), values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_graphic_in_a_small_file_is_within_the_bounds_of_a_megabyte(mode: str) -> None:
    file = lossless(Image.new(mode, (2048, 2040), "red"))
    header = read_header(file, 64)
    assert essence(file)
    assert header.memory <= 64 << 20
    assert header.work <= 16 << 20


SMALL = lossless(Image.effect_noise((60, 50), 40).convert("RGB"))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(20, len(SMALL) - 1), st.integers(0, 255)), max_size=3))
def test_codes_are_called_damaged_only_if_the_decoder_fails(odd: list[tuple[int, int]]) -> None:
    changed = bytearray(SMALL)
    for at, value in odd:
        changed[at] = value
    file = bytes(changed)
    try:
        header = read_header(file, 64)
    except ImageFileError:
        return
    try:
        header.essence(file)
    except DamagedFileError:
        with pytest.raises(OSError, match=r"decode|header|identify"):
            Image.open(io.BytesIO(file)).load()
    except CostlyFileError:
        return
