from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.images.decode import decode_essence
from offramp.images.errors import CostlyFileError, ImageFileError, UnsupportedPixelsError
from offramp.images.header import read_header

TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
FORMS: dict[str, dict[str, Any]] = {
    "JPEG": {}, "PNG": {}, "WEBP": {}, "GIF": {}, "BMP": {}, "TIFF": {}, "JPEG2000": {},
    "AVIF": {}, "PPM": {},
}  # fmt: skip


def encoded(size: tuple[int, int], form: str, mode: str = "RGB", **options: Any) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.integers(1, 300), st.integers(1, 300))
def test_the_size_in_the_header_is_that_of_pillow(form: str, width: int, height: int) -> None:
    file = encoded((width, height), form)
    header = read_header(file, 64)
    assert (header.format, header.width, header.height) == (form, width, height)


GOOD = {form: encoded((40, 30), form) for form in FORMS}


def changed(form: str, at: int, content: bytes) -> bytes:
    return GOOD[form][:at] + content + GOOD[form][at + len(content) :]


FRAME = GOOD["JPEG"].index(b"\xff\xc0")
NOT_READ = {
    "JPEG of 12 bits": changed("JPEG", FRAME + 4, b"\x0c"),
    "hierarchical JPEG": changed("JPEG", FRAME + 1, b"\xc5"),
    "JPEG-LS": changed("JPEG", FRAME + 1, b"\xf7"),
    "JPEG of two components": changed("JPEG", FRAME + 9, b"\x02"),
    "PNG of an iOS app": GOOD["PNG"][:8] + b"\0\0\0\4CgBI\x50\0\x20\2" + GOOD["PNG"][8:],
    "BMP of 64 bits": changed("BMP", 28, b"\x40"),
}


def read(file: bytes) -> None:
    header = read_header(file, 64)
    decode_essence(header, header.essence(file), TARGET)


@pytest.mark.parametrize("name", NOT_READ)
def test_kinds_that_are_not_read_are_not_damaged(name: str) -> None:
    with pytest.raises(UnsupportedPixelsError, match=r"not read.*; save it as"):
        read(NOT_READ[name])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_every_damaged_file_is_an_error_of_the_tree(form: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[form])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        header = read_header(file, 64)
        if header.memory > 1 << 24:
            return
        pixels = decode_essence(header, header.essence(file), TARGET)
    except ImageFileError:
        return
    assert pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("form", FORMS)
def test_every_start_of_a_file_is_an_error_of_the_tree_or_a_picture(form: str) -> None:
    starts = [GOOD[form][:length] for length in range(min(700, len(GOOD[form])))]
    if form == "JPEG":
        starts.append(GOOD[form][: GOOD[form].index(b"\xff\xda") + 4])
    for file in starts:
        try:
            header = read_header(file, 64)
            decode_essence(header, header.essence(file), TARGET)
        except ImageFileError:
            continue


def test_each_scan_of_a_jpeg_counts() -> None:
    file = encoded((640, 480), "JPEG", progressive=True)
    scan = file.rindex(b"\xff\xda")
    few = read_header(file, 64).work
    many = read_header(file[:scan] + file[scan:-2] * 100 + file[-2:], 64).work
    assert many - few >= 99 * 640 * 480 / 64
    hidden = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"  # a comment with ends of an image
    again = file[:scan] + hidden + file[scan:-2] * 100 + file[-2:]
    assert read_header(again, 64).work == many
    with pytest.raises(CostlyFileError, match="more than 400 scans"):
        read_header(file[:scan] + file[scan:-2] * 2500 + file[-2:], 64)


def test_a_baseline_photo_costs_little_and_a_second_image_nothing() -> None:
    file = encoded((4000, 3000), "JPEG")
    header = read_header(file, 64)
    assert header.decoded == 500 * 375
    assert header.memory == 7 * header.decoded
    assert header.work < 1_000_000
    assert read_header(file + file * 20, 64).work == header.work


def png(depth: int, colour: int, row: bytes, transparency: bytes) -> bytes:
    """Return a PNG of 32 equal rows of 32 pixels, with a transparent colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    ihdr = chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, depth, colour, 0, 0, 0))
    rest = chunk(b"IDAT", zlib.compress(row * 32)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + ihdr + chunk(b"tRNS", transparency) + rest


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_the_transparent_grey_of_2_bits_is_transparent(level: int) -> None:
    file = png(2, 0, b"\0" + bytes([0b01010101]) * 8, struct.pack(">H", level))
    header = read_header(file, 64)
    got = decode_essence(header, header.essence(file), TARGET)
    assert (got == (255 if level == 1 else 85)).all()


def test_16_bit_colours_with_a_transparent_one_are_an_error() -> None:
    file = png(16, 2, b"\0" + bytes(6 * 32), bytes(6))
    header = read_header(file, 64)
    with pytest.raises(UnsupportedPixelsError, match="16-bit RGB with a transparent colour"):
        decode_essence(header, header.essence(file), TARGET)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_only_the_first_frame_of_a_long_animation_is_read(form: str) -> None:
    frames = [Image.new("RGB", (32, 32), (i % 256, i // 256, 9)) for i in range(1500)]
    frames[0] = Image.new("RGB", (32, 32), "red")
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:])
    file = buffer.getvalue()
    header = read_header(file, 64)
    got = decode_essence(header, header.essence(file), TARGET)
    assert np.abs(got.astype(int) - [255, 0, 0]).max() <= 6


def test_an_orientation_after_the_frames_of_a_png_is_read() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = [Image.new("RGB", (32, 32), (i, 0, 9)) for i in range(20)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    file = buffer.getvalue()
    content = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = len(content).to_bytes(4) + b"eXIf" + content + zlib.crc32(b"eXIf" + content).to_bytes(4)
    turned = file[:-12] + chunk + file[-12:]
    assert read_header(turned, 64).essence(turned).orientation == 6


def test_many_comments_of_a_gif_are_refused() -> None:
    file = encoded((8, 8), "GIF")
    start = 13 + (3 << ((file[10] & 7) + 1) if file[10] & 0x80 else 0)
    comments = b"!\xfe" + b"\x01a" * 500_000 + b"\0"
    with pytest.raises(CostlyFileError, match="blocks come before its first frame"):
        read_header(file[:start] + comments + file[start:], 64)


@pytest.mark.parametrize(
    ("tag", "value", "message"),
    [(259, 50000, "compression 50000"), (339, 2, "signed 8-bit")],
)
def test_tiffs_without_a_stated_conversion_are_an_error(tag: int, value: int, message: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF", tiffinfo={339: (1, 1, 1)})
    file = bytearray(buffer.getvalue())
    (at,) = struct.unpack_from("<I", file, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", file, at)[0], 12):
        if struct.unpack_from("<H", file, entry)[0] == tag:
            struct.pack_into("<HHIHH", file, entry, tag, 3, 1, value, 0)
    with pytest.raises(UnsupportedPixelsError, match=message):
        read_header(bytes(file), 64)
