from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import fitted, side_wanted

SIDES = st.integers(1, 300)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([1.0, 0.875, 0.1]))
@example(123, 123, 224, 224, 1.0)  # the box began at -7e-15
def test_the_centred_box_is_inside_the_image(
    width: int, height: int, wanted_width: int, wanted_height: int, margin: float
) -> None:
    target = ImageInput(
        height=wanted_height, width=wanted_width, fit="crop", filter="box", margin=margin
    )
    image = fitted(Image.new("RGB", (width, height), "red"), target)
    assert image.size == (wanted_width, wanted_height)
    assert image.getextrema() == ((255, 255), (0, 0), (0, 0))


def target(fit: str, margin: float) -> ImageInput:
    return ImageInput.model_validate(
        {"height": 70, "width": 70, "fit": fit, "filter": "box", "margin": margin}
    )


def framed(width: int, height: int, left: int, top: int) -> Image.Image:
    """Return a blue image with a red frame: `left` pixels left and right, `top` above and below."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (left, top, width - left, height - top))
    return image


@pytest.mark.parametrize(
    ("fit", "image"),
    # 7/8 of the shorter side of 160 pixels are 140, also across. Stretching keeps 7/8 of each side.
    [("crop", framed(320, 160, 90, 10)), ("stretch", framed(320, 160, 20, 10))],
)
def test_a_margin_is_cut_off_before_the_image_is_resized(fit: str, image: Image.Image) -> None:
    assert fitted(image, target(fit, 0.875)).getextrema() == ((0, 0), (0, 0), (255, 255))
    assert fitted(image, target(fit, 0.9)).getextrema() != ((0, 0), (0, 0), (255, 255))


def test_an_image_of_the_target_size_has_no_margin() -> None:
    image = framed(70, 70, 5, 5)
    assert fitted(image, target("crop", 0.875)) is image


def test_an_image_with_a_margin_is_decoded_at_a_larger_size() -> None:
    assert side_wanted(target("crop", 1)) == 140
    assert side_wanted(target("crop", 0.875)) == 160
    assert side_wanted(target("crop", 0.875), (0, 0, 1, 0.5)) == 280
