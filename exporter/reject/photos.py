"""Photos of other things than the classes: any folder, parquet file or data set of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exporter.errors import ExportError
from exporter.output_folder import data_name
from offramp.bundle.manifest import ImageInput
from offramp.cores import cores
from offramp.data.errors import DatasetError
from offramp.data.formats import HEAD, PARQUET, format_of
from offramp.data.records import Encoded, Found, Stored
from offramp.data.summary import left_out_lines
from offramp.inputs.datasets import ImageItems, find_images
from training.data.images import READ_AT_ONCE, File, ImageFiles
from training.data.splits import find_dataset
from training.errors import DataError
from training.recipes.weights import Resizing

LEAST = 20
MOST = 5000  # photos that are used, evenly spaced over all


@dataclass(frozen=True, slots=True)
class Photos:
    """Photos of other things.

    Attributes:
        pixels: RGB at the network's input size, uint8 [N, H, W, 3].
        source: Name of the photos in the manifest.
        damaged: Files that cannot be decoded, with reasons. They are left out.
    """

    pixels: Tensor
    source: str
    damaged: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Listed:
    """Encoded images by row."""

    items: Sequence[Encoded]

    def __len__(self) -> int:
        return len(self.items)

    def read(self, rows: Sequence[int]) -> Iterator[Encoded]:
        return (self.items[row] for row in rows)


def read_photos(
    source: str, target: ImageInput, log: Callable[[str], None] | None = None
) -> Photos:
    """Read and decode photos, at most `MOST` of them. Labels are ignored.

    Args:
        source: A folder in which all images at all depths are read, a parquet file, or a data set
            as for training.
        target: Size of the decoded images, and the way to reach it.
        log: Callback for the names of files that are not read.

    Raises:
        ExportError: There are fewer than `LEAST`.
        DataError: The source does not exist or has no images.
    """
    pixels: list[NDArray[np.uint8]] = []
    damaged: list[str] = []
    for some in decode_photos(find_photos(source, "--reject", log), target, source, MOST):
        for each in some:
            if isinstance(each, DataError):
                damaged.append(str(each).removeprefix("data: "))
            else:
                pixels.append(each)
    if len(pixels) < LEAST:
        reason = f" ({damaged[0]})" if damaged else ""
        raise ExportError(
            f"--reject: {source} has {len(pixels)} photos that can be decoded{reason}; give at "
            f"least {LEAST}, better some hundred"
        )
    return Photos(torch.from_numpy(np.stack(pixels)), data_name(source), tuple(damaged))


def decode_photos(
    photos: Sequence[ImageItems | Stored],
    target: ImageInput,
    source: str,
    most: int | None = None,
) -> Iterator[list[NDArray[np.uint8] | DataError]]:
    """Decode photos, some at a time, in order.

    Args:
        photos: The result of `find_photos`.
        target: Size of the decoded images, and the way to reach it.
        source: Name of the photos in error texts.
        most: Number of photos to decode at most, evenly spaced over all. `None`: all.

    Yields:
        Lists of RGB images, uint8 [H, W, 3], or of errors for files that cannot be decoded.
    """
    chosen = _evenly(photos, most)
    while some := list(islice(chosen, READ_AT_ONCE)):
        yield list(_decoded(some, target, source))


def _evenly(photos: Sequence[ImageItems | Stored], most: int | None) -> Iterator[Encoded]:
    total = sum(len(images) for images in photos)
    if most is None or total <= most:
        return chain(*photos)
    rows = {row * total // most for row in range(most)}
    return (item for row, item in enumerate(chain(*photos)) if row in rows)


def find_photos(
    source: str, option: str, log: Callable[[str], None] | None = None
) -> Sequence[ImageItems | Stored]:
    """Find photos in a folder at any depth, a parquet file, or all parts of a data set.

    A file with two names is one photo, because promises count independent images. `log` gets the
    names of files that are not read.

    Raises:
        DataError: The source does not exist or has no images. The text names the option.
    """
    path = Path(source)
    try:
        if path.is_dir() or (path.is_file() and _is_parquet(path)):
            found: ImageItems | Found = find_images([path]).without_second_names(path)
        else:
            found = find_dataset(source)
    except DatasetError as error:
        raise DataError(f"{option}: {error}") from error
    if log:
        for line in left_out_lines(found.left_out, found.hidden):
            log(line)
    return [each.images for each in found.parts.values()] if isinstance(found, Found) else [found]


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return format_of(file.read(HEAD)) == PARQUET


def _decoded(
    items: Sequence[Encoded], target: ImageInput, source: str
) -> Iterator[NDArray[np.uint8] | DataError]:
    no_rows = torch.zeros(0, dtype=torch.int64)
    resizing = Resizing(target.filter, target.margin)
    reader = ImageFiles(_Listed(items), no_rows, no_rows, target.height, source)

    def decode(item: Encoded) -> NDArray[np.uint8] | DataError:
        try:
            return reader.pixels(File(item.read(), -1, item.name, resizing))
        except OSError as error:
            return DataError(f"data: {item.name} cannot be read: {error.strerror or error}")
        except DataError as error:
            return error

    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(decode, items)
