from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from offramp.bundle.manifest import ImageInput
from serving.images.decoder import Decoder, decode, decode_planned
from serving.images.plan import plan
from tests.serving.images.pictures import MEGA, TARGET, chunk, file, gradient, png_header
from tests.serving.small_bundle import png, random_images

STRETCH = ImageInput(height=24, width=48, fit="stretch", filter="lanczos")


def test_an_image_of_the_target_size_is_not_changed() -> None:
    (image,) = random_images(1, 0)
    np.testing.assert_array_equal(decode(file(Image.fromarray(image)), TARGET, MEGA), image)


@pytest.mark.parametrize(("form", "off"), [("JPEG", 4), ("PNG", 2), ("WEBP", 6)])
@pytest.mark.parametrize("target", [TARGET, STRETCH])
def test_a_large_image_is_cropped_or_stretched(form: str, off: int, target: ImageInput) -> None:
    got = decode(file(gradient(), form), target, MEGA).astype(int)
    assert got.shape == (target.height, target.width, 3)
    edge = 0.5 - 480 / 640 / 2 if target.fit == "crop" else 0  # cropped at each side
    middle = np.arange(target.width) + 0.5
    red = 255 * (edge + (1 - 2 * edge) * middle / target.width)
    assert np.abs(got[:, 2:-2, 0].mean(0) - red[2:-2]).max() < off
    assert np.abs(got[..., 2]).max() < off + 2


def test_a_jpeg_decoded_at_a_reduced_scale_gives_the_same_image() -> None:
    data = file(gradient(4000, 3000), "JPEG", quality=95)
    whole = gradient(4000, 3000).resize((43, 32), Image.Resampling.BILINEAR)
    expected = np.asarray(ImageOps.fit(whole, (32, 32)))
    got = decode(data, TARGET, 12 * MEGA)
    assert np.abs(got.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_modes_without_transparency_are_converted(mode: str) -> None:
    got = decode(file(Image.new(mode, (64, 64), 1 if mode == "1" else "white")), TARGET, MEGA)
    assert (got == 255).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparent_pixels_are_blended_with_white(mode: str, form: str) -> None:
    image = Image.new(mode, (64, 64), (0,) * len(mode))
    image.paste((0,) * (len(mode) - 1) + (255,), (0, 0, 32, 64))
    got = decode(file(image, form, lossless=True), TARGET, MEGA)
    assert (got[:, :15] == 0).all()
    assert (got[:, 17:] == 255).all()


@pytest.mark.parametrize("key", [0, b"\x00\xff"])
def test_a_transparent_palette_is_blended_with_white(key: int | bytes) -> None:
    image = Image.new("P", (32, 32), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.paste(1, (16, 0, 32, 32))
    got = decode(file(image, transparency=key), TARGET, MEGA)
    assert got[0, 0].tolist() == [255, 255, 255]
    assert got[0, 31].tolist() == [40, 50, 60]


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.linspace(0, 65535, 32).astype(np.uint16)
    got = decode(file(Image.fromarray(np.tile(values, (32, 1)))), TARGET, MEGA)
    np.testing.assert_array_equal(got[0, :, 1], values >> 8)


def test_16_bit_colour_is_scaled_not_clipped() -> None:
    row = b"\0" + struct.pack(">HHH", 65535, 32768, 255) * 32
    rows = chunk(b"IDAT", zlib.compress(row * 32)) + chunk(b"IEND", b"")
    got = decode(png_header(32, 32, 16, 2) + rows, TARGET, MEGA)
    assert got[5, 5].tolist() == [255, 128, 0]


def test_a_cmyk_jpeg_is_converted() -> None:
    image = Image.new("CMYK", (64, 64), (0, 255, 255, 0))
    got = decode(file(image, "JPEG", quality=100), TARGET, MEGA)
    assert np.abs(got.astype(int) - [255, 0, 0]).max() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = gradient(96, 64)
    back = {3: 3, 6: 8, 8: 6}.get(orientation, orientation)  # the inverse orientation
    undo = Image.Exif()
    undo[0x0112] = back
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(file(upright, exif=undo))))
    got = decode(file(turned, "JPEG", exif=exif, quality=95), TARGET, MEGA)
    expected = decode(file(upright), TARGET, MEGA)
    assert np.abs(got.astype(int) - expected).max() < 8


def test_of_an_animation_the_first_frame_is_used() -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    for form in ("PNG", "WEBP", "GIF", "TIFF", "AVIF"):
        data = file(frames[0], form, save_all=True, append_images=frames[1:], lossless=True)
        off = np.abs(decode(data, TARGET, MEGA).astype(int) - [255, 0, 0]).max()
        assert off <= (4 if form == "AVIF" else 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_sizes_are_resized(size: tuple[int, int]) -> None:
    got = decode(file(Image.new("RGB", size, "red")), TARGET, MEGA)
    assert (got == [255, 0, 0]).all()


@pytest.mark.parametrize(
    ("form", "options", "off"),
    [
        ("GIF", {}, 20),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 0),
        ("TIFF", {"compression": "jpeg"}, 8),
        ("TIFF", {"big_tiff": True}, 0),
        ("JPEG2000", {}, 2),
        ("JPEG2000", {"no_jp2": True}, 2),
        ("AVIF", {"quality": 95}, 8),
        ("PPM", {}, 0),
    ],
)
def test_the_formats_of_training_are_read(form: str, options: dict[str, Any], off: int) -> None:
    expected = decode(file(gradient()), TARGET, MEGA)
    got = decode(file(gradient(), form, **options), TARGET, MEGA)
    assert np.abs(got.astype(int) - expected).max() <= off


def test_a_small_jpeg_is_decoded_to_the_pixels_of_its_plan() -> None:
    for image in random_images(5, 2):
        data = png(image, "JPEG")
        planned = decode_planned(plan(data, TARGET, MEGA), TARGET)
        np.testing.assert_array_equal(decode(data, TARGET, MEGA), planned)


def test_small_plain_jpegs_are_decoded_at_once() -> None:
    decoder = Decoder(TARGET, MEGA, 1)
    small = [png(image, "JPEG") for image in random_images(3, 1)]
    expected = [decode(each, TARGET, MEGA) for each in small]
    sizes = decoder.small(small)
    assert sizes == [(32, 32, 1)] * 3
    decoded = decoder.decode_small(small, sizes)
    assert decoded is not None
    np.testing.assert_array_equal(decoded, expected)
    for other in (png(random_images(1, 1)[0]), file(gradient(), "JPEG"), b""):
        assert decoder.small([*small, other]) is None
    assert decoder.decode_small([*small[1:], small[0][:-40]], sizes) is None, "damaged"
    assert decoder.small(small * 6) is None, "16 images of 32 x 32 are the limit"
    assert Decoder(TARGET, 32 * 32 - 1, 1).small(small) is None
    decoder.close()
