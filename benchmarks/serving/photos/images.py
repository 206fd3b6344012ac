"""Photos of a stated size, made from photos of any size."""

from __future__ import annotations

import argparse
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

QUALITY = 90  # of the JPEGs
NOISE = 10  # enlarged photos get uniform noise of so many steps of 255, as a sensor adds
_SIZE = re.compile(r"(\d+)(px|MP)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Size:
    """A size of photos.

    Attributes:
        name: Name in tables and files.
        side: Longer side in pixels. `None`: the area counts.
        area: Pixels of a photo.
    """

    name: str
    side: int | None
    area: int

    def factor(self, width: int, height: int) -> float:
        """Return the factor that brings sides in pixels to this size."""
        if self.side is not None:
            return self.side / max(width, height)
        return math.sqrt(self.area / (width * height))


def size_named(text: str) -> Size:
    """Parse the size of photos, such as `400px` (longer side) or `12MP` (megapixels).

    Raises:
        argparse.ArgumentTypeError: It has another form.
    """
    found = _SIZE.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 400px or 12MP")
    number, unit = int(found[1]), found[2]
    return Size(text, number, 0) if unit == "px" else Size(text, None, number * 10**6)


def photo_of(file: bytes, size: Size, seed: int) -> bytes:
    """Return a photo at this size, upright, as a JPEG of 4:2:0.

    A photo that has to be enlarged gets noise. Without it, a JPEG of 12 megapixels would be far
    smaller than a camera's, and cheaper to decode.

    Args:
        file: Image file of any size.
        size: Wanted size.
        seed: Seed of the noise.
    """
    with Image.open(io.BytesIO(file)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    factor = size.factor(*image.size)
    sides = [max(1, round(factor * side)) for side in image.size]
    image = image.resize((sides[0], sides[1]), Image.Resampling.LANCZOS)
    if factor > 1:
        image = _noisy(image, seed)
    made = io.BytesIO()
    image.save(made, "JPEG", quality=QUALITY, subsampling="4:2:0")
    return made.getvalue()


def _noisy(image: Image.Image, seed: int) -> Image.Image:
    pixels = np.asarray(image, np.int16)
    noise = np.random.default_rng(seed).integers(-NOISE, NOISE + 1, pixels.shape[:2], np.int16)
    return Image.fromarray(np.clip(pixels + noise[:, :, None], 0, 255).astype(np.uint8))


def real_photos(folder: Path) -> list[bytes]:
    """Return the JPEG files of a folder, in the order of their names."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))
    return [path.read_bytes() for path in paths]
