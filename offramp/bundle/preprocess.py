"""What `ImageInput` means: an image as it was stored, brought to what stage 1 takes.

Training and serving both come through here, so that a network meets in service just what it
was trained on. Whatever a file may hold comes out as 8-bit RGB: the EXIF orientation is
applied, transparency is laid on white, 16 bits are scaled to 8, palettes, grey and CMYK are
converted.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps

from offramp.bundle.manifest import ImageInput

FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
BACKGROUND = "white"
Box = tuple[float, float, float, float]  # left, top, right, bottom
GAP = 2.0  # a large image is first reduced coarsely to this many times the size wanted


def bring_to_size(image: Image.Image, target: ImageInput, part: Box | None = None) -> Image.Image:
    """An opened image, not yet decoded, as RGB at the target's size.

    Args:
        image: as Pillow opened it.
        target: the size, and how to come to it.
        part: what to take, instead of what `target.fit` says: left, top, right and bottom as
            shares of the upright picture's width and height.

    Raises:
        Exception: whatever Pillow's plugins raise on a damaged file; they decode here.
    """
    side = side_wanted(target, part)
    image.draft(None, (side, side))  # a JPEG is decoded at 1/2, 1/4 or 1/8 where that is enough
    ImageOps.exif_transpose(image, in_place=True)
    return _opaque(fitted(_drawable(image), target, part))


def side_wanted(target: ImageInput, part: Box | None = None) -> int:
    """The least width and height that an image may be decoded at, to be made smaller after."""
    across = min(part[2] - part[0], part[3] - part[1]) if part else 1.0
    return int(GAP * max(target.width, target.height) / across)


def fitted(image: Image.Image, target: ImageInput, part: Box | None = None) -> Image.Image:
    """An upright image, RGB or RGBA, at the target's size."""
    size = (target.width, target.height)
    if not part and image.size == size:
        return image
    box = _scaled(part, image.size) if part else None
    if box is None and target.fit == "crop":
        box = _middle(image.size, size)
    return image.resize(size, FILTERS[target.filter], box, reducing_gap=GAP)


def _scaled(part: Box, size: tuple[int, int]) -> Box:
    width, height = size
    # a rounded product could lie a little outside
    right, bottom = min(part[2] * width, width), min(part[3] * height, height)
    return part[0] * width, part[1] * height, right, bottom


def _middle(size: tuple[int, int], wanted: tuple[int, int]) -> Box:
    """The largest box of the wanted proportions in the middle of an image."""
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = scale * wanted[0], scale * wanted[1]
    # rounded, the box could lie a little outside
    left, top = max(0.0, (size[0] - width) / 2), max(0.0, (size[1] - height) / 2)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _drawable(image: Image.Image) -> Image.Image:
    """As RGB or RGBA, which resize and blend as they should."""
    if image.mode.startswith("I"):  # 16-bit grey; convert() would clip it
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    background = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(background, image).convert("RGB")
