"""Conversion of every kind of pixels to 8-bit RGB or RGBA, on a stated scale or not at all.

8 bits and fewer       as Pillow converts them: palettes, grey, CMYK, YCbCr, HSV
16-bit grey            value >> 8, and the transparent value, if any, is transparent
12-bit grey (TIFF)     value >> 4
32-bit integers        values 0 to 255 as they are, any other value is an error
floats                 round(255 * value) for values 0 to 1, any other value is an error
LAB and all others     an error that names the mode
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

REMEDY = "save it as 8-bit RGB, for example as PNG"
_CONVERTED = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "RGBX",
    "RGBa",
    "LA",
    "La",
    "PA",
    "CMYK",
    "YCbCr",
    "HSV",
)
_SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
_BITS, _COLOUR_MAP, _SAMPLE_FORMAT = 258, 320, 339  # tags of TIFF
_WHOLE_16 = ("PPM", "PNG")  # formats with 16-bit grey that Pillow can give in mode I


class PixelsError(ValueError):
    """The pixels have no stated conversion to 8 bits."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image in mode RGB, or RGBA if it has transparent pixels.

    Raises:
        PixelsError: The mode, or the range of values, has no stated conversion.
    """
    transparent = image.info.get("transparency")
    if image.mode in _SIXTEEN or (image.mode == "I" and image.format in _WHOLE_16):
        return _from_grey(np.asarray(image) >> 8, _where(image, transparent))
    if image.mode == "I":
        return _from_grey(_small_integers(np.asarray(image)), _where(image, transparent))
    if image.mode == "F":
        return _from_grey(_unit_floats(image), None)
    if image.mode not in _CONVERTED:
        raise PixelsError(f"pixels of mode {image.mode} are not converted; {REMEDY}")
    if image.mode == "La":  # Pillow converts it to no other mode
        image = image.convert("LA")
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def rescaled(image: Image.Image) -> Image.Image:
    """Return a TIFF on the scale that Pillow takes it to have. Any other image stays as it is.

    Pillow gives grey of 12 bits as that of 16 bits. It reads a colour map with values of 8 bits as
    one of 16 bits. libtiff takes a map to have 8 bits if all of its values are below 256.

    Args:
        image: Image that Pillow opened, not a copy of it. A copy has no tags.

    Raises:
        PixelsError: It has unsigned 32-bit integers above 255, which Pillow gives as signed ones.
    """
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I;16" and tags.get(_BITS) == (12,):
        return Image.fromarray(np.asarray(image) << 4)
    if image.mode == "I" and tags and tags.get(_SAMPLE_FORMAT, (1,)) == (1,):
        _small_integers(np.asarray(image).view(np.uint32))
    if image.mode in ("P", "PA") and max(tags.get(_COLOUR_MAP, (256,))) < 256:
        image = image.copy()
        colours = np.array(tags[_COLOUR_MAP], np.uint8).reshape(3, -1)
        image.putpalette(colours.T.tobytes())
    return image


def _where(image: Image.Image, transparent: object) -> NDArray[np.bool_] | None:
    return np.asarray(image) == transparent if isinstance(transparent, int) else None


def _small_integers(values: NDArray[np.integer]) -> NDArray[np.integer]:
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 255:
        raise PixelsError(
            f"32-bit integers from {lowest} to {highest} have no known scale; only 0 to 255 "
            f"is read. Scale it, or {REMEDY}"
        )
    return values


def _unit_floats(image: Image.Image) -> NDArray[np.float32]:
    values = np.asarray(image)
    lowest, highest = float(values.min()), float(values.max())
    if not 0 <= lowest <= highest <= 1:  # also if one of them is not a number
        raise PixelsError(
            f"floats from {lowest:g} to {highest:g} have no known scale; only 0 to 1 is read. "
            f"Scale it, or {REMEDY}"
        )
    return np.rint(values * np.float32(255))


def _from_grey(values: NDArray[np.generic], transparent: NDArray[np.bool_] | None) -> Image.Image:
    grey = Image.fromarray(values.astype(np.uint8))
    if transparent is None:
        return grey.convert("RGB")
    alpha = Image.fromarray(np.where(transparent, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha)).convert("RGBA")
