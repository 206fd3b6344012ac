"""Crops of random size and shape, for training the papers' ImageNet networks.

Source: Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), section 6, with the
constants of torchvision's RandomResizedCrop, which the papers' code uses.
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from offramp.bundle.orientation import TRANSPOSED, orientation_of
from offramp.bundle.preprocess import Box
from offramp.images.errors import DamagedFileError
from offramp.images.header import Header, upright_size
from offramp.images.without_metadata import Essence

SMALLEST_AREA = 0.08  # of the crop, as a share of that of the image
RATIO = (3 / 4, 4 / 3)  # width of the crop, divided by its height
TRIES = 10


def random_part(
    size: tuple[int, int], rng: np.random.Generator, smallest: float = SMALLEST_AREA
) -> Box:
    """Draw a part of an image of (width, height) pixels, as shares of width and height.

    Args:
        size: Width and height of the image, in pixels.
        rng: Generator of the part.
        smallest: Smallest area of the part, as a share of that of the image, in (0, 1].
    """
    width, height = size
    for _ in range(TRIES):
        area = width * height * rng.uniform(smallest, 1.0)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = rng.integers(width - across + 1), rng.integers(height - down + 1)
            return left / width, top / height, (left + across) / width, (top + down) / height
    return _middle(width / height)


def _middle(ratio: float) -> Box:
    """Return the largest part with an allowed ratio, in the middle of the image."""
    wanted = min(max(ratio, RATIO[0]), RATIO[1])
    across, down = min(1.0, wanted / ratio), min(1.0, ratio / wanted)
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


def size_upright(header: Header, essence: Essence) -> tuple[int, int]:
    """Return width and height in pixels as the image is decoded.

    The headers of AVIF and HEIC files state the size before a rotation, which plugins read.

    Raises:
        DamagedFileError: Such a file cannot be opened.
    """
    if header.format not in ("AVIF", "HEIF"):
        return upright_size(header, essence)
    try:
        with Image.open(io.BytesIO(essence.file), formats=[header.format]) as image:
            width, height = image.size
            turned = orientation_of(image) in TRANSPOSED
    except Exception as error:  # Pillow's plugins raise many types on damaged files
        raise DamagedFileError(str(error)[:200] or type(error).__name__) from error
    return (height, width) if turned else (width, height)
