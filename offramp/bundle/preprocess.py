"""Bring an image to the size and form that stage 1 takes, as `ImageInput` defines.

Training and serving both use this module, so that a network gets the same pixels in both. The
result is always 8-bit RGB: the orientation is applied (`orientation`), all kinds of pixels are
converted on a stated scale (`modes`), and transparent pixels are blended with white.
"""

from __future__ import annotations

from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.bundle.modes import rescaled, to_rgb
from offramp.bundle.orientation import orientation_of, turned

FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
BACKGROUND = "white"
Box = tuple[float, float, float, float]  # left, top, right, bottom
GAP = 2.0  # a large image is first reduced with a box filter to this multiple of the target size


def bring_to_size(
    image: Image.Image,
    target: ImageInput,
    part: Box | None = None,
    orientation: int | None = None,
) -> Image.Image:
    """Decode an opened image to RGB at the target's size.

    Args:
        image: Image that Pillow opened and has not decoded yet.
        target: Size of the result and the way to reach it.
        part: Part of the image to use instead of `target.fit`: left, top, right and bottom as
            fractions of the upright image's width and height.
        orientation: Orientation of the image, 1 to 8, as in EXIF. `None`: read it from the image.

    Raises:
        PixelsError: The pixels have no stated conversion to 8 bits.
        Exception: Any error that Pillow's plugins raise on a damaged file.
    """
    side = side_wanted(target, part)
    image.draft(None, (side, side))  # decodes a JPEG at 1/2, 1/4 or 1/8 if that is enough
    image.load()
    if orientation is None:
        orientation = orientation_of(image)
    return _opaque(fitted(to_rgb(turned(rescaled(image), orientation)), target, part))


def side_wanted(target: ImageInput, part: Box | None = None) -> int:
    """Return the smallest width and height, in pixels, to decode an image at before resizing."""
    across = min(part[2] - part[0], part[3] - part[1]) if part else target.margin
    return int(GAP * max(target.width, target.height) / across)


def fitted(image: Image.Image, target: ImageInput, part: Box | None = None) -> Image.Image:
    """Resize an upright image, RGB or RGBA, to the target's size.

    An image of that size is returned as it is, also if the target has a margin: a client that
    brought it to this size has cut the margin off.
    """
    size = (target.width, target.height)
    if not part and image.size == size:
        return image
    box = _scaled(part, image.size) if part else _centre(image.size, target)
    return image.resize(size, FILTERS[target.filter], box, reducing_gap=GAP)


def _scaled(part: Box, size: tuple[int, int]) -> Box:
    width, height = size
    # a rounded product can be slightly outside the image
    right, bottom = min(part[2] * width, width), min(part[3] * height, height)
    return part[0] * width, part[1] * height, right, bottom


def _centre(size: tuple[int, int], target: ImageInput) -> Box | None:
    """Return the centred box to resize, or None for the whole image."""
    if target.fit == "crop":
        scale = target.margin * min(size[0] / target.width, size[1] / target.height)
        return _middle(size, scale * target.width, scale * target.height)
    if target.margin == 1:
        return None
    return _middle(size, target.margin * size[0], target.margin * size[1])


def _middle(size: tuple[int, int], width: float, height: float) -> Box:
    """Return the centred box of this width and height."""
    # after rounding, the box can be slightly outside the image
    left, top = max(0.0, (size[0] - width) / 2), max(0.0, (size[1] - height) / 2)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    background = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(background, image).convert("RGB")
