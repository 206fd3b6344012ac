"""Corrupt images with noise or blur."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter


def opened(encoded: bytes) -> Image.Image:
    """Decode an image, RGB."""
    return Image.open(io.BytesIO(encoded)).convert("RGB")


def png_of(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def with_noise(image: Image.Image, sigma: float, seed: int) -> Image.Image:
    """Add Gaussian noise with a standard deviation in full scales."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sigma * 255, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def blurred(image: Image.Image, sigma: float) -> Image.Image:
    """Blur with a Gaussian of a standard deviation in pixels."""
    return image.filter(ImageFilter.GaussianBlur(sigma))
