from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.images.decode import decode_essence
from offramp.images.errors import CostlyFileError, DamagedFileError, UnsupportedPixelsError
from offramp.images.header import read_header
from tests.offramp.tiffs import Values, tiff

TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
GREY: dict[int, Values] = {256: (32,), 257: (32,), 258: (8,), 259: (1,), 262: (1,), 277: (1,)}
PIXELS = bytes([90]) * 32 * 32


def decoded(file: bytes) -> NDArray[np.uint8]:
    header = read_header(file, 64)
    return decode_essence(header, header.essence(file), TARGET)


def test_12_bit_grey_is_scaled() -> None:
    assert (decoded(tiff({**GREY, 258: (12,)}, b"\xaa" * 32 * 48)) == 170).all()


@pytest.mark.parametrize("bits", [3, 6, 10, 14, 24, 64])
def test_other_depths_are_not_read(bits: int) -> None:
    with pytest.raises(UnsupportedPixelsError, match=f"{bits}-bit pixels are not read"):
        decoded(tiff({**GREY, 258: (bits,)}, bytes(32 * 4 * bits)))


@pytest.mark.parametrize(
    "tags",
    [
        {258: (32,) * 3, 262: (2,), 277: (3,), 339: (3,) * 3},  # colours of floats
        {258: (16, 16), 277: (2,), 338: (2,)},  # grey of 16 bits with alpha
        {258: (8,) * 5, 262: (2,), 277: (5,), 338: (0,)},
        {262: (9,), 258: (8,) * 3, 277: (3,)},  # ICC LAB
        {262: (32803,)},  # of a sensor
    ],
)
def test_kinds_that_are_not_read_are_not_damaged(tags: dict[int, Values]) -> None:
    with pytest.raises(UnsupportedPixelsError, match="not read; save it as 8-bit RGB"):
        decoded(tiff({**GREY, **tags}, bytes(32 * 32 * 12)))


def test_premultiplied_grey_is_blended_with_white() -> None:
    tags: dict[int, Values] = {**GREY, 258: (8, 8), 277: (2,), 338: (1,)}
    assert (decoded(tiff(tags, b"\x32\x80" * 32 * 32)) == 177).all()


def test_uncompressed_separate_planes_of_16_bits_are_not_read() -> None:
    planes: dict[int, Values] = {**GREY, 258: (16, 16, 16), 262: (2,), 277: (3,), 284: (2,)}
    with pytest.raises(UnsupportedPixelsError, match="separate planes of 16 bits are not read"):
        decoded(tiff(planes, bytes(3 * 2 * 32 * 32)))
    for read in ({258: (8, 8, 8)}, {259: (5,)}, {284: (1,)}, {258: (16,), 262: (1,), 277: (1,)}):
        assert read_header(tiff({**planes, **read}, b""), 64).width == 32, read


def test_a_colour_map_of_8_bits_is_scaled() -> None:
    colours = np.zeros((3, 256), int)
    colours[:, 90] = 200, 60, 20
    tags = {**GREY, 262: (3,), 320: tuple(colours.ravel().tolist())}
    assert (decoded(tiff(tags, PIXELS)) == (200, 60, 20)).all()


@pytest.mark.parametrize("mark", [{254: (1,)}, {254: (5,)}, {255: (2,)}])
def test_the_thumbnail_of_another_image_is_refused(mark: dict[int, Values]) -> None:
    with pytest.raises(UnsupportedPixelsError, match="the thumbnail of another one"):
        decoded(tiff({**GREY, **mark, 330: (7,)}, PIXELS))
    pointer = bytearray(tiff({**GREY, **mark, 330: (7,)}, PIXELS))
    at = next(at for at in range(10, 200, 12) if pointer[at : at + 2] == b"\x4a\x01")
    pointer[at + 2] = 13  # the kind of values that are positions of directories
    with pytest.raises(UnsupportedPixelsError, match="the thumbnail of another one"):
        decoded(bytes(pointer))
    alone = tiff({**GREY, **mark}, PIXELS)
    assert (decoded(alone) == 90).all()
    end = 8 + 2 + 12 * struct.unpack_from("<H", alone, 8)[0]
    with pytest.raises(UnsupportedPixelsError, match="the thumbnail of another one"):
        decoded(alone[:end] + b"\x01\0\0\0" + alone[end + 4 :])


def test_a_page_or_an_image_with_smaller_copies_is_read() -> None:
    assert (decoded(tiff({**GREY, 254: (2,), 330: (7,)}, PIXELS)) == 90).all()
    assert (decoded(tiff({**GREY, 330: (7,)}, PIXELS)) == 90).all()


@pytest.mark.parametrize("missing", [1, 2, 20, 100, 500])
def test_a_strip_that_is_cut_off_is_damaged(missing: int) -> None:
    with pytest.raises(DamagedFileError):
        decoded(tiff(GREY, PIXELS)[:-missing])


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"]),
    st.booleans(),
    st.integers(1, 1500),
)
def test_a_file_that_is_cut_off_gives_all_pixels_or_an_error(
    form: str | None, big: bool, missing: int
) -> None:
    """The last bytes can be those of the directory, which a reader can do without."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    buffer = io.BytesIO()
    options: dict[str, Any] = {"compression": form} if form else {}
    Image.fromarray(noise).save(buffer, "TIFF", big_tiff=big and form is None, **options)
    file = buffer.getvalue()
    got = decoded(file)
    if form != "jpeg":
        np.testing.assert_array_equal(got[..., 0], noise)
    try:
        np.testing.assert_array_equal(decoded(file[: -min(missing, len(file) - 8)]), got)
    except (DamagedFileError, UnsupportedPixelsError):
        return


KEPT = [254, 258, 259, 262, 266, 277, 284, 317, 320, 338, 339, 529, 530, 532]


@pytest.mark.parametrize("tag", KEPT)
def test_long_arrays_of_rationals_are_refused(tag: int) -> None:
    tags = {key: values for key, values in GREY.items() if key != tag}
    with pytest.raises(CostlyFileError, match=f"its tag {tag} has 1000 values"):
        decoded(tiff(tags, PIXELS, {tag: 1000}))


def test_long_arrays_of_tags_beside_the_pixels_are_read() -> None:
    assert (decoded(tiff(GREY, PIXELS, {282: 5000, 40000: 5000})) == 90).all()


def test_values_in_the_directory_are_damaged() -> None:
    file = bytearray(tiff(GREY, PIXELS))
    entry = next(at for at in range(10, 200, 12) if file[at : at + 2] == b"\x15\x01")
    struct.pack_into("<HHII", file, entry, 277, 3, 3, 12)
    with pytest.raises(DamagedFileError, match="tag 277 lie in the directory"):
        read_header(bytes(file), 64)


def test_the_essence_is_no_longer_than_the_file() -> None:
    file = tiff(GREY, PIXELS, {282: 50})
    assert len(read_header(file, 64).essence(file).file) == len(file)
