"""Image files to send, with their labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offramp.bundle.manifest import Manifest
from offramp.load.outcomes import Integers
from training.data.splits import load_files


@dataclass(frozen=True, slots=True)
class Sent:
    """Image files with labels.

    Attributes:
        files: Encoded images, N of them.
        labels: Class of each image, int64 [N].
    """

    files: tuple[bytes, ...]
    labels: Integers

    def __len__(self) -> int:
        return len(self.files)


def load_images(source: str, manifest: Manifest, split: str = "test") -> Sent:
    """Load the images of a split from a hub name, a parquet file or a folder.

    Raises:
        DataError: There are no such images, or their labels are not the bundle's.
    """
    found = load_files(source, split, manifest.labels)
    files = tuple(file.encoded for file in found)
    return Sent(files, np.array([file.target for file in found], dtype=np.int64))
