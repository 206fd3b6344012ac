"""A folder of images of two classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def image_folder(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("ant", "bee"):
        (folder / label).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i}.png")
    return folder
