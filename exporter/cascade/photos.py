"""The held-out images of a cascade, decoded without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.errors import ExportError
from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import side_wanted
from offramp.cores import cores
from offramp.data.errors import DatasetError
from offramp.data.held_out import in_random_order
from offramp.data.reader import read_dataset
from offramp.data.records import Encoded, Found, Split
from offramp.images.decode import decode_essence
from offramp.images.errors import ImageFileError
from offramp.images.header import read_header

CALIBRATED: tuple[Split, ...] = ("validation", "test", "train")  # the first that there is
SEED = 0  # of the order of the images
AT_ONCE = 256  # files
Decoded = NDArray[np.uint8] | str  # an image, or why it cannot be decoded
Track = Callable[[Iterable[Decoded], int], Iterator[Decoded]]


@dataclass(frozen=True, slots=True)
class HeldOutImages:
    """Images uint8 [N, H, W, 3] (RGB) with labels int64 [N], in random order."""

    pixels: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


def find_held_out(source: Path, split: str | None, *, strict: bool) -> tuple[Found, Split]:
    """Find labelled images, and return them with the name of the split to use.

    Raises:
        ExportError: There are none, or no such split, or `strict` and something is left out.
    """
    try:
        found = read_dataset(source)
        if strict:
            found.check_strict()
        named = next((name for name in CALIBRATED if name in found.parts), None)
        chosen = next((name for name in CALIBRATED if name == split), named)
        if chosen is None or (split is not None and split not in found.parts):
            raise ExportError(
                f"--split: {source} has no split {split!r}, only {', '.join(found.parts)}"
            )
    except DatasetError as error:
        raise ExportError(f"--data: {error}") from error
    return found, chosen


def decode(
    found: Found, split: Split, labels: tuple[str, ...], target: ImageInput, track: Track
) -> HeldOutImages:
    """Decode the images of a split, with one thread for each core.

    Args:
        found: The images.
        split: The split.
        labels: Labels of the cascade.
        target: Size of the decoded images, and the way to reach it.
        track: Function that shows the progress of an iterable of so many images.

    Raises:
        ExportError: Images are damaged.
    """
    part = found.parts[split]
    of_class = np.array([labels.index(label) for label in found.classes], dtype=np.int64)
    pixels = np.empty((len(part.targets), target.height, target.width, 3), np.uint8)
    _fill(pixels, track(_decoded(part.images, target), len(pixels)))
    order = in_random_order(len(pixels), SEED)
    return HeldOutImages(pixels[order], of_class[part.targets][order])


def _fill(pixels: NDArray[np.uint8], decoded: Iterable[Decoded]) -> None:
    """Write decoded images into an array [N, H, W, 3], or raise ExportError for damaged ones."""
    damaged: list[str] = []
    for row, each in enumerate(decoded):
        if isinstance(each, str):
            damaged.append(each)
        else:
            pixels[row] = each
    if damaged:
        raise ExportError(
            f"--data: {len(damaged)} of {len(pixels)} images cannot be decoded; remove them. The "
            f"first: {damaged[0]}"
        )


def _decoded(images: Iterable[Encoded], target: ImageInput) -> Iterator[Decoded]:
    """Decode images, with one thread for each core."""
    encoded = iter(images)
    with ThreadPoolExecutor(cores()) as pool:
        while some := list(islice(encoded, AT_ONCE)):
            yield from pool.map(partial(_decode_one, target=target), some)


def _decode_one(encoded: Encoded, target: ImageInput) -> Decoded:
    """Return the pixels of an image, or the reason why there are none."""
    try:
        data = encoded.read()
        header = read_header(data, side_wanted(target))
        return decode_essence(header, header.essence(data), target)
    except (ImageFileError, OSError) as error:
        return f"{encoded.name} cannot be decoded: {error}"
