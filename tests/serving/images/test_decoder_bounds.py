"""Images that the decoder refuses, and the bounds of its work and memory."""

from __future__ import annotations

import asyncio
import struct
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.errors import (
    DamagedImageError,
    EmptyBodyError,
    ImageTooLargeError,
    InvalidRequestError,
    NotAnImageError,
)
from serving.images.decoder import Decoder, decode
from tests.serving.images.pictures import MEGA, TARGET, chunk, file, gradient, png_header
from tests.serving.small_bundle import png, random_images


def test_an_empty_body_is_refused() -> None:
    with pytest.raises(EmptyBodyError, match="--data-binary"):
        decode(b"", TARGET, MEGA)


@pytest.mark.parametrize(
    "data", [b"hello", b"%PDF-1.7", file(Image.new("RGB", (9, 9)), "ICO"), b"\x89PNG\r\n\x1a\n"]
)
def test_other_formats_are_not_images(data: bytes) -> None:
    with pytest.raises(NotAnImageError, match="JPEG, PNG, WebP, GIF, BMP, TIFF"):
        decode(data, TARGET, MEGA)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_damaged(form: str) -> None:
    data = file(Image.effect_noise((200, 200), 50).convert("RGB"), form)
    with pytest.raises(DamagedImageError, match="send it whole"):
        decode(data[: len(data) // 2], TARGET, MEGA)


def test_too_many_pixels_are_refused_after_the_header() -> None:
    with pytest.raises(ImageTooLargeError, match="19000 x 19000 = 361000000 pixels"):
        decode(png_header(19000, 19000, 8, 2) + chunk(b"IDAT", b""), TARGET, 25 * MEGA)
    with pytest.raises(ImageTooLargeError):
        decode(file(gradient()), TARGET, 640 * 480 - 1)
    assert decode(file(gradient()), TARGET, 640 * 480).any()


def test_the_pixels_at_which_a_jpeg_is_decoded_are_bounded() -> None:
    data = file(gradient(), "JPEG")  # decoded at a quarter for 32 x 32
    with pytest.raises(ImageTooLargeError):
        decode(data, TARGET, 160 * 120 - 1)
    assert decode(data, TARGET, 160 * 120).any()


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_phone_photo_of_50_megapixels_is_read(options: dict[str, Any]) -> None:
    photo = Image.effect_noise((800, 600), 60).convert("RGB").resize((8160, 6120))
    got = decode(file(photo, "JPEG", quality=90, **options), TARGET, 25 * MEGA)
    assert got.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("form", "mode", "most"), [("WEBP", "RGB", 2000), ("AVIF", "RGB", 2150), ("PNG", "RGBA", 2850)]
)
def test_the_memory_of_decoding_is_bounded_by_the_bytes_sent(
    form: str, mode: str, most: int
) -> None:
    options = {"speed": 10} if form == "AVIF" else {"method": 0} if form == "WEBP" else {}
    data = file(Image.new(mode, (most + 100, most + 100)), form, **options)
    with pytest.raises(ImageTooLargeError, match=r"MB to decode, at most 67 MB; send fewer images"):
        decode(data, TARGET, 25 * MEGA)
    more = struct.pack(">I4s", 2_000_000, b"free") + bytes(1_999_992)  # a box that AVIF skips
    assert decode(data + more, TARGET, 25 * MEGA).shape == (32, 32, 3)
    data = file(Image.new(mode, (most, most)), form, **options)
    assert decode(data, TARGET, 25 * MEGA).shape == (32, 32, 3)


GOOD = {form: file(gradient(40, 30), form) for form in ("JPEG", "PNG", "WEBP")}


@settings(max_examples=300)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_every_damaged_file_is_an_error_of_the_client(form: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[form])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from Pillow, about metadata; a server logs it
        try:
            got = decode(bytes(content), TARGET, MEGA)
        except InvalidRequestError:
            return
    assert got.shape == (32, 32, 3)
    assert got.dtype == np.uint8


def test_the_decoder_names_the_bad_image() -> None:
    decoder = Decoder(TARGET, MEGA, 2)
    good = [png(image) for image in random_images(3, 1)]
    got = asyncio.run(decoder.decode(decoder.plan(good)))
    np.testing.assert_array_equal(got, random_images(3, 1))
    with pytest.raises(NotAnImageError, match="image 2: this is not"):
        decoder.plan([good[0], b"?", good[2]])
    with pytest.raises(DamagedImageError, match="image 2: cannot be decoded"):
        asyncio.run(decoder.decode(decoder.plan([good[0], good[1][:-60], good[2]])))
    decoder.close()


def test_a_small_jpeg_keeps_the_bounds() -> None:
    data = png(random_images(1, 2)[0], "JPEG")
    with pytest.raises(ImageTooLargeError, match="32 x 32"):
        decode(data, TARGET, 32 * 32 - 1)
    with pytest.raises(DamagedImageError, match="send it whole"):
        decode(data[:-40], TARGET, MEGA)
