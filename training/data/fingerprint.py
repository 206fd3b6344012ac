"""The part of training images in a fingerprint, and the forms that fingerprints have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from training.data.encoded import FileImages
from training.data.images import ImageFiles
from training.errors import DataError

FORM = "2-"  # before a hash with training images; checkpoints before had only the held-out ones
HASHED = 5000  # most held-out images whose pixels are hashed
READ = 500  # most training images whose files are read: photos can have megabytes


def has_training_images(fingerprint: str) -> bool:
    """Return whether a fingerprint shows that training images are the same."""
    return fingerprint.startswith(FORM)


def contents(files: ImageFiles) -> Iterator[bytes]:
    """Yield bytes that differ for other images, and for the same images in another order.

    They are the sizes of all image files, and the bytes of 500 images that are spread over all.
    Sizes in tables would need the whole table. Places, names and times of files do not count.

    Raises:
        DataError: A file cannot be read.
    """
    if isinstance(files.encoded, FileImages):
        yield np.fromiter(_sizes(files), np.int64, len(files)).tobytes()
    some = min(READ, len(files))
    spread = torch.arange(some) * len(files) // max(some, 1)
    yield from (file.encoded for file in files.select(spread).files())


def _sizes(files: ImageFiles) -> Iterator[int]:
    for one in files.encoded.read(files.rows.tolist()):
        try:
            yield len(one.image) if isinstance(one.image, bytes) else one.image.stat().st_size
        except OSError as error:
            raise DataError(
                f"data: {files.source}, {one.name} cannot be read: {error.strerror or error}"
            ) from error
