"""A set of images, and the file of their features."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from training.data.images import ImageFiles
from training.errors import DataError
from training.fit.checkpoint import content_digest
from training.fit.features.batches import StoredSet
from training.fit.features.store import Rows, Store
from training.fit.features.trunk import Trunk
from training.networks.backbones.timm_network import PREFIX

VERSION = 1  # of the files
AT_ONCE = 128  # images that are decoded, and whose features are written together
Track = Callable[[Iterable[Tensor], int], Iterable[Tensor]]


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images of a set, and the file of their features.

    Attributes:
        files: Images.
        views: Number of views of each image: 2 with its mirror image, else 1.
        store: File of the features.
    """

    files: ImageFiles
    views: int
    store: Store

    def complete(self, trunk: Trunk, track: Track) -> StoredSet:
        """Compute the features that are missing, and return all.

        Args:
            trunk: Trunk that computes them.
            track: Wrapper of the pieces, for a progress bar.

        Raises:
            DataError: An image is damaged, or another run writes the file.
            UnwritableFileError: The file cannot be written.
        """
        rows = self.store.complete(lambda first: self._computed(first, trunk, track))
        return StoredSet(rows, self.files.targets)

    def _computed(self, first: int, trunk: Trunk, track: Track) -> Iterator[Rows]:
        """Yield the features from a row on."""
        pieces = torch.arange(first // self.views, len(self.files)).split(AT_ONCE)
        for indices in track(pieces, len(pieces)):
            try:
                pixels = self.files.select(indices).decoded().pixels
            except DataError:
                raise self.files.damage() from None
            yield trunk.rows(pixels, self.views)


def image_set(folder: Path, name: str, trunk: Trunk, files: ImageFiles, views: int) -> ImageSet:
    """Return a set with its file, whose name has a hash of all that decides its content.

    Raises:
        DataError: An image cannot be read.
    """
    key = content_digest(_deciding(trunk, files, views), _weights(trunk))
    path = folder / f"features-{name}-{key[:16]}.f16"
    return ImageSet(files, views, Store(path, len(files) * views, trunk.layout.length))


def _deciding(trunk: Trunk, files: ImageFiles, views: int) -> str:
    """Return all that decides the features beside the weights, as JSON."""
    deciding = {
        "version": VERSION,
        "images": _identities(files),
        "size": files.size,
        "resizing": [files.resizing.filter, files.resizing.margin],
        "views": views,
        "shapes": trunk.layout.shapes,
    }
    if len(trunk.network.starts) > 1:
        deciding["sizes"] = [getattr(each, "smaller", files.size) for each in trunk.network.readers]
    if trunk.backbone.startswith(PREFIX):  # other networks of timm can have the same tensors
        deciding["backbone"] = trunk.backbone
    return json.dumps(deciding)


def _identities(files: ImageFiles) -> str:
    """Hash the identities of all images."""
    images = hashlib.sha256()
    for identity in files.identities():
        images.update(hashlib.sha256(identity).digest())
    return images.hexdigest()


def _weights(trunk: Trunk) -> dict[str, Tensor]:
    """Return the weights of the trunk and of the normalization before it, on the CPU."""
    parts = (trunk.network.normalize, trunk.network.stages)
    return {
        f"{k}.{name}": tensor.cpu().contiguous()
        for k, part in enumerate(parts)
        for name, tensor in part.state_dict().items()
    }
