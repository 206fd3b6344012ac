"""Measure the CPU time to read a random part of a photo, from its file and from the cache.

The cache is that of `offramp train --shrink true`. With `--megapixels` the images of `--data` are
first enlarged to that many, and saved as JPEGs that EXIF turns, like photos of a phone.

    python -m benchmarks.training.photos.decoding --data my/images --megapixels 12
"""

from __future__ import annotations

import argparse
import io
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image

from benchmarks.timing import positive_int
from training.data.datasets import open_dataset
from training.data.images import ImageFiles
from training.data.shrunk.cache import shrunk

TURNED = 6  # EXIF orientation of an upright photo of a phone
RATIO = 4 / 3
QUALITY = 90


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU time for each photo, in milliseconds, and the size of the cache, in bytes."""

    from_file: float
    from_cache: float
    shrinking: float
    cache_bytes: int


def enlarged(files: ImageFiles, folder: Path, megapixels: float) -> ImageFiles:
    """Save the images of `files` in a folder, enlarged to photos of a phone, and open them."""
    height = round((megapixels * 1e6 / RATIO) ** 0.5)
    for number, file in enumerate(files.files()):
        with Image.open(io.BytesIO(file.encoded)) as image:
            size = (round(height * RATIO), height)
            photo = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = TURNED
        place = folder / f"class {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        photo.save(place / f"{number}.jpg", quality=QUALITY, exif=exif)
    return open_dataset(str(folder), files.size, 2, 0).train


def milliseconds(run: Callable[[], object], images: int) -> float:
    """Return the CPU time of a call for each image."""
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start) / images


def random_parts(files: ImageFiles) -> None:
    """Read a random part of each image in this thread."""
    for number, file in enumerate(files.files()):
        files.pixels(file, np.random.default_rng(number))


def costs(files: ImageFiles, folder: Path) -> Costs:
    """Measure both ways of reading, and shrinking, with a cache in this folder."""
    made: list[ImageFiles] = []

    def make() -> None:
        made.append(shrunk(files, folder, "train", parts=True, track=lambda groups, _: groups))

    shrinking = milliseconds(make, len(files))
    return Costs(
        milliseconds(lambda: random_parts(files), len(files)),
        milliseconds(lambda: random_parts(made[0]), len(files)),
        shrinking,
        sum(path.stat().st_size for path in folder.iterdir()),
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", required=True, help="folder, table or parquet file of images")
    parser.add_argument("--photos", type=positive_int, default=40, help="largest number of images")
    parser.add_argument("--size", type=positive_int, default=224, help="pixels of a side")
    parser.add_argument("--crop-area", type=float, default=0.7, help="smallest area of a part")
    parser.add_argument("--megapixels", type=float, help="enlarge the images to this many")
    return parser


def main() -> int:
    """Print the table."""
    given = build_parser().parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        files = open_dataset(given.data, given.size, 2, 0).train
        files = files.select(torch.arange(min(given.photos, len(files))))
        if given.megapixels:
            files = enlarged(files, Path(scratch) / "photos", given.megapixels)
        files = replace(files, smallest_crop=given.crop_area)
        found = costs(files, Path(scratch) / "cache")
    print(f"{len(files)} photos, {given.size} pixels, {platform.machine()}, ms of CPU time each:")
    print(f"random part from the file   {found.from_file:6.2f}")
    print(f"random part from the cache  {found.from_cache:6.2f}")
    print(f"shrinking, once             {found.shrinking:6.2f}")
    print(f"kB in the cache             {found.cache_bytes / len(files) / 1e3:6.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
