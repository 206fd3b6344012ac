import base64
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from training.report.examples import SHOWN
from training.report.thumbnails import LONGEST_URI, SIDE, thumbnail

START = "data:image/jpeg;base64,"


def decoded(uri: str) -> Image.Image:
    assert uri.startswith(START)
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(START))))


@settings(max_examples=30)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 1000))
def test_noise_of_any_size_is_short_enough(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    uri = thumbnail(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    assert len(uri) <= LONGEST_URI
    size = decoded(uri).size
    assert max(size) == min(SIDE, max(height, width))


def test_two_tone_noise_is_short_enough() -> None:
    rng = np.random.default_rng(0)
    uri = thumbnail(255 * rng.integers(0, 2, (SIDE, SIDE, 3), dtype=np.uint8))
    assert len(uri) <= LONGEST_URI
    assert SHOWN * LONGEST_URI < 2_000_000


def test_colours_are_kept() -> None:
    pixels = np.full((224, 224, 3), (200, 40, 90), dtype=np.uint8)
    colour = np.asarray(decoded(thumbnail(pixels)))[60, 60].astype(int)
    assert np.abs(colour - (200, 40, 90)).max() < 5
