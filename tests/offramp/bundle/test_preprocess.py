from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import fitted

SIDES = st.integers(1, 300)


@given(SIDES, SIDES, SIDES, SIDES)
@example(123, 123, 224, 224)  # the box began at -7e-15
def test_the_centred_box_is_inside_the_image(
    width: int, height: int, wanted_width: int, wanted_height: int
) -> None:
    target = ImageInput(height=wanted_height, width=wanted_width, fit="crop", filter="box")
    image = fitted(Image.new("RGB", (width, height), "red"), target)
    assert image.size == (wanted_width, wanted_height)
    assert image.getextrema() == ((255, 255), (0, 0), (0, 0))
