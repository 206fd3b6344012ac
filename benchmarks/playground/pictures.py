"""Pictures to drop: parts of a few photos, turned, blurred and dimmed, so that exits differ."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

SIDE = 480  # pixels of the longer side, at most


@dataclass(frozen=True, slots=True)
class Picture:
    """An image file with a name."""

    name: str
    content: bytes


def read_pictures(paths: Sequence[Path]) -> list[Picture]:
    """Read photos as they are."""
    return [Picture(path.name, path.read_bytes()) for path in paths]


def varied_pictures(paths: Sequence[Path], count: int, seed: int) -> list[Picture]:
    """Return `count` different pictures, made of these photos in turn."""
    rng = random.Random(seed)
    pictures = []
    for number in range(count):
        path = paths[number % len(paths)]
        with Image.open(path) as image:
            photo = ImageOps.exif_transpose(image).convert("RGB")
        photo.thumbnail((SIDE, SIDE))
        file = io.BytesIO()
        _varied(photo, rng).save(file, "JPEG", quality=90)
        pictures.append(Picture(f"{path.stem}-{number + 1}.jpg", file.getvalue()))
    return pictures


def _varied(photo: Image.Image, rng: random.Random) -> Image.Image:
    width, height = photo.size
    share = rng.uniform(0.35, 1)
    across, down = share * width, share * height
    left, top = rng.uniform(0, width - across), rng.uniform(0, height - down)
    part = photo.crop((int(left), int(top), int(left + across), int(top + down)))
    part = part.rotate(rng.choice([0, 0, 15, -25, 90]), expand=True, fillcolor="white")
    part = part.filter(ImageFilter.GaussianBlur(rng.choice([0, 0, 1, 3])))
    return ImageEnhance.Brightness(part).enhance(rng.uniform(0.6, 1.3))
