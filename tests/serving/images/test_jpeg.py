"""Plain JPEGs give exactly Pillow's pixels, other files are left to Pillow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import bring_to_size
from serving.images.jpeg import MAX_SCANS, Plain, decode_plain, read_plain

CIFAR = Path(__file__).parents[2] / "data" / "cifar10-500.parquet"
TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
TARGETS = [
    TARGET,
    ImageInput(height=24, width=48, fit="stretch", filter="lanczos"),
    ImageInput(height=3, width=2, fit="crop", filter="bicubic"),
    ImageInput(height=224, width=224, fit="crop", filter="box"),
    ImageInput(height=96, width=96, fit="crop", filter="bicubic", margin=0.875),
    ImageInput(height=24, width=40, fit="stretch", filter="bilinear", margin=0.5),
]


def pillow(file: bytes, target: ImageInput) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(bring_to_size(image, target))


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """Return an image of coarse and fine noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(pixels + rng.integers(0, 56, pixels.shape, dtype=np.uint8))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def assert_equal(file: bytes, target: ImageInput) -> None:
    header = read_plain(file)
    assert header is not None
    pixels = decode_plain(file, header, target)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, pillow(file, target))


def test_real_images_give_equal_pixels() -> None:
    for row in pq.read_table(CIFAR).column(0).to_pylist():
        assert_equal(row["bytes"], TARGET)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(8, 700),
    st.integers(8, 700),
    st.integers(1, 100),
    st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    st.booleans(),
    st.sampled_from([0, 3]),
    st.sampled_from(TARGETS),
)
def test_every_plain_jpeg_gives_equal_pixels(
    width: int,
    height: int,
    quality: int,
    subsampling: str,
    progressive: bool,
    restart: int,
    target: ImageInput,
) -> None:
    options: dict[str, Any] = {
        "quality": quality,
        "subsampling": subsampling,
        "progressive": progressive,
    }
    try:
        file = jpeg(noise(width, height, quality), restart_marker_rows=restart, **options)
    except OSError:  # the buffer of Pillow is too small for some images
        reject()
    assert_equal(file, target)


@pytest.mark.parametrize("size", [(4000, 3000), (1023, 4097), (3001, 2001)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_large_photos_give_equal_pixels(size: tuple[int, int], subsampling: str) -> None:
    file = jpeg(noise(*size), subsampling=subsampling, icc_profile=bytes(3000), comment=b"hi")
    header = read_plain(file)
    assert header is not None
    assert header[:2] == size
    for target in TARGETS:
        assert_equal(file, target)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


GOOD = noise(64, 48)
PIXELS = np.asarray(GOOD)
UNUSUAL = {
    "grey": jpeg(GOOD.convert("L")),
    "cmyk": jpeg(GOOD.convert("CMYK")),
    "rgb": jpeg(GOOD, keep_rgb=True),
    "4:4:0": simplejpeg.encode_jpeg(PIXELS, colorsubsampling="440"),
    "4:1:1": simplejpeg.encode_jpeg(PIXELS, colorsubsampling="411"),
    "tiny": jpeg(noise(7, 300)),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "nothing": b"",
    "header": jpeg(GOOD)[:300],
    "marker": jpeg(GOOD)[:20] + b"\xff",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_files_are_left_to_pillow(name: str) -> None:
    assert read_plain(UNUSUAL[name]) is None


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("target", TARGETS)
def test_photos_with_metadata_give_equal_pixels(orientation: int, target: ImageInput) -> None:
    xmp = b"<tiff:Orientation>%d</tiff:Orientation>" % orientation
    photo = noise(640, 480)
    for file in (
        jpeg(photo, exif=exif(orientation)),
        jpeg(photo, xmp=xmp),
        jpeg(photo, exif=exif(orientation), icc_profile=bytes(3000), comment=b"hi", xmp=b"xmp"),
    ):
        header = read_plain(file)
        assert header == (640, 480, orientation)
        assert_equal(file, target)


def test_a_photo_without_a_jfif_segment_gives_equal_pixels() -> None:
    file = jpeg(noise(640, 480), exif=exif(8))
    after = 4 + int.from_bytes(file[4:6])
    assert file[2:4] == b"\xff\xe0"
    assert_equal(file[:2] + file[after:], TARGET)


def test_the_first_image_of_a_file_with_two_gives_equal_pixels() -> None:
    buffer = io.BytesIO()
    GOOD.save(buffer, "MPO", save_all=True, append_images=[noise(64, 48, 1)])
    assert_equal(buffer.getvalue(), TARGET)


def test_a_progressive_jpeg_with_many_scans_is_not_plain() -> None:
    file = jpeg(GOOD, progressive=True)
    scan = file.rindex(b"\xff\xda")
    many = file[:scan] + file[scan:-2] * (MAX_SCANS + 1) + file[-2:]
    assert read_plain(file) is not None
    assert read_plain(many) is None


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_files_are_left_to_pillow(progressive: bool) -> None:
    file = jpeg(noise(200, 200), progressive=progressive)
    for fraction in (0.5, 0.9, 0.99):
        part = file[: int(fraction * len(file))]
        assert decode_plain(part, Plain(200, 200), TARGET) is None


@settings(max_examples=400, deadline=None)
@given(st.booleans(), st.data())
def test_damaged_files_give_equal_pixels_or_are_left_to_pillow(
    progressive: bool, data: st.DataObject
) -> None:
    content = bytearray(jpeg(noise(40, 30), progressive=progressive))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = bytes(content)
    size = read_plain(file)
    if size is None or size[0] * size[1] > 1 << 20:
        return
    pixels = decode_plain(file, size, TARGET)
    if pixels is not None:
        np.testing.assert_array_equal(pixels, pillow(file, TARGET))
