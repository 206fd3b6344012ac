"""Small JPEGs inside a page, as `data:` URIs of a bounded length."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128  # pixels, at most
LONGEST_URI = 14_000  # characters: 140 of them are less than 2 MB
QUALITIES = (80, 60, 40, 20)  # even noise is short enough at the last


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """Return an image uint8 [H, W, 3] (RGB) as a `data:` URI of at most 14,000 characters.

    An image with a side of more than 128 pixels is shrunk. No image is enlarged.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    uri = ""
    for quality in QUALITIES:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, optimize=True)
        uri = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        if len(uri) <= LONGEST_URI:
            break
    return uri
