from __future__ import annotations

import os
import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.errors import UnreadableFileError
from offramp.inputs.images import each_image, file_of, pixels_from, png_of, shrunk
from serving.errors import BodyTooLargeError, ImageTooLargeError, UnsupportedImageError
from serving.images.decoder import decode
from tests.offramp.pictures import jpeg
from tests.serving.small_bundle import png, random_images

TARGET = ImageInput(height=48, width=32, fit="crop", filter="bilinear")


def test_a_file_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1000))
    assert file_of(path, 1000) == file_of(str(path), 1000) == file_of(bytes(1000), 1000)
    for source in (path, bytes(1000)):
        with pytest.raises(BodyTooLargeError, match="more than 999 bytes"):
            file_of(source, 999)


@pytest.mark.parametrize(("size", "most"), [(200_000, 200_000), (200_000, 199_999), (0, 10)])
def test_a_pipe_is_read_to_its_end_or_refused(tmp_path: Path, size: int, most: int) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("wb", buffering=0) as file, suppress(BrokenPipeError):
            file.write(bytes(size))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        if size > most:
            with pytest.raises(BodyTooLargeError):
                file_of(pipe, most)
        else:
            assert file_of(pipe, most) == bytes(size)
    finally:
        writer.join()


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no"):
        with pytest.raises(UnreadableFileError, match=str(path)):
            file_of(path, 10)


def test_one_image_or_many() -> None:
    pixels = random_images(3, 0)
    assert len(list(each_image(pixels))) == 3
    assert len(list(each_image(pixels[0]))) == 1
    assert list(each_image(b"bytes")) == [b"bytes"]
    assert list(each_image("path")) == ["path"]
    assert list(each_image(["a", Path("b")])) == ["a", Path("b")]


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_a_pillow_image_of_any_mode_becomes_pixels(mode: str) -> None:
    image = Image.new(mode, (70, 60), 1)
    pixels = pixels_from(image, TARGET)
    assert pixels.shape == (48, 32, 3)
    assert pixels.dtype == np.uint8
    assert (image.mode, image.size) == (mode, (70, 60))


@pytest.mark.parametrize("format_", ["PPM", "PNG", "TIFF"])
def test_a_pillow_image_of_16_bit_grey_has_the_pixels_of_its_file(format_: str) -> None:
    grey = np.arange(48 * 32, dtype=np.uint16).reshape(48, 32) * 42
    Image.fromarray(grey).save(file := BytesIO(), format_)
    pixels = pixels_from(Image.open(file), TARGET)
    np.testing.assert_array_equal(pixels, decode(file.getvalue(), TARGET, 10_000))
    assert pixels.max() > 200


@pytest.mark.parametrize("mode", ["LAB", "I", "F"])
def test_a_pillow_image_without_a_scale_is_unsupported(mode: str) -> None:
    with pytest.raises(UnsupportedImageError, match="save it as 8-bit RGB"):
        pixels_from(Image.new(mode, (70, 60), 300 if mode != "LAB" else 0), TARGET)


def test_pixels_of_the_right_size_are_not_copied() -> None:
    pixels = np.zeros((48, 32, 3), np.uint8)
    assert pixels_from(pixels, TARGET) is pixels


def test_the_number_of_pixels_is_bounded() -> None:
    with pytest.raises(ImageTooLargeError):
        pixels_from(np.zeros((40, 40, 3), np.uint8), TARGET, 1599)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_shrunk_file_has_the_pixels_that_a_server_decodes(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = jpeg(600, 400, exif=exif)
    pixels = shrunk(file, TARGET)
    assert pixels is not None
    assert np.array_equal(pixels, decode(file, TARGET, 10**6))


def test_small_files_and_unknown_ones_are_not_shrunk() -> None:
    assert shrunk(png(np.zeros((600, 400, 3), np.uint8)), TARGET) is None
    assert shrunk(bytes(100_000), TARGET) is None


def test_a_png_keeps_the_pixels() -> None:
    pixels = random_images(1, 0)[0]
    target = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
    assert np.array_equal(decode(png_of(pixels), target, 10**6), pixels)
