"""The cache of a frozen trunk's features: computed once for each view of each image.

The files are named by a hash of all that decides the features: the weights of the trunk, the
images, their size and resizing, and the views. A run with the same ones reads them from there.
Features are kept as float16. A value that float16 cannot hold is an error.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track as rich_track
from torch import Tensor

from training.data.datasets import Dataset
from training.data.encoded import identity
from training.data.images import ImageFiles
from training.distributed import processes
from training.errors import DataError, RecipeError
from training.fit.checkpoint import Checkpoint, Progress, content_digest
from training.fit.exported import on_device
from training.fit.features.batches import FeatureSets, StoredSet
from training.fit.features.layout import Layout, layout_of, trunk_features
from training.fit.features.pseudo_labels import with_pseudo_labels
from training.fit.features.store import Rows, Store, check_room
from training.fit.initial import initial_network
from training.fit.same_run import check_same_run
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import images_at_once
from training.networks.weights import Pretrained
from training.recipes import Recipe

VERSION = 1  # of the files
VALUES_AT_ONCE = 8 * 3 * 224**2  # of pixels in a forward pass; more of them are slower on a CPU
AT_ONCE = 128  # images that are decoded, and whose features are written together
Track = Callable[[Iterable[Tensor], int], Iterable[Tensor]]


@dataclass(frozen=True, slots=True)
class Trunk:
    """A frozen trunk that computes features.

    Attributes:
        network: Network on the device of the run, in eval mode.
        layout: Layout of its features.
        device: Device of the run.
    """

    network: MultiExitNetwork
    layout: Layout
    device: torch.device

    def rows(self, pixels: Tensor, views: int) -> Rows:
        """Compute the features of images uint8 [N, H, W, 3], float16 [N * views, length].

        Raises:
            DataError: A value is not finite in float16.
        """
        found = []
        for batch in pixels.split(images_at_once(pixels, VALUES_AT_ONCE)):
            images = self.network.normalize(batch.to(self.device))
            seen = [images, images.flip(3)][:views]
            each = [self.layout.pack(trunk_features(self.network, one)) for one in seen]
            found.append(torch.stack(each, dim=1).flatten(0, 1).to(torch.float16).cpu())
        rows: Rows = torch.cat(found).numpy()
        if not np.isfinite(rows).all():
            raise DataError(
                "cache_features: a feature of this network is too large for float16; give "
                "--cache-features false"
            )
        return rows


class Place(NamedTuple):
    """The folder of the cache, the device to compute on, and the console for the progress."""

    folder: Path
    device: torch.device
    console: Console


def run_features(
    progress: Progress,
    dataset: Dataset[ImageFiles],
    checkpoint: Checkpoint | None,
    pretrained: Pretrained | None,
    place: Place,
) -> FeatureSets | None:
    """Return the features of a run that caches them, or `None`.

    Args:
        progress: start of the run.
        dataset: images of the run.
        checkpoint: checkpoint that the run continues, if any.
        pretrained: weights that the run starts from, if it starts.
        place: where the features are computed and kept.

    Raises:
        CheckpointError: the images are not those of the checkpoint.
        TrainingError: see `cached_features`.
    """
    recipe = progress.recipe
    if not recipe.cache_features:
        return None
    if checkpoint:
        check_same_run(checkpoint.progress, progress)
        network = checkpoint.network()
    else:
        network = initial_network(recipe, len(progress.labels), None, pretrained)
    return cached_features(recipe, network, dataset, place)


def cached_features(
    recipe: Recipe, network: MultiExitNetwork, dataset: Dataset[ImageFiles], place: Place
) -> FeatureSets:
    """Return the features of all images of a run, which are computed where they are missing.

    Args:
        recipe: recipe of the run.
        network: network with the trunk of the run. It is put into eval mode on the device.
        dataset: images of the run.
        place: where the features are computed and kept. The folder is made.

    Raises:
        RecipeError: there are several processes.
        DataError: an image is damaged, the disk has no room, another run writes the cache, or a
            feature does not fit float16.
        UnwritableFileError: the cache cannot be written.
    """
    if processes() > 1:
        raise RecipeError(
            "cache_features: training heads on cached features takes one process; start it without "
            "torchrun"
        )
    network = on_device(network.eval(), place.device)
    trunk = Trunk(network, layout_of(network, recipe.size), place.device)
    views = 2 if recipe.flip else 1
    sets = {"train": (dataset.train, views), "held-out": (dataset.held_out, 1)}
    stores = {
        name: _store(place.folder, name, trunk, files, number)
        for name, (files, number) in sets.items()
    }
    size = check_room(list(stores.values()))
    mirrored = " and their mirror images" if views == 2 else ""
    place.console.print(
        f"features of {len(dataset.train):,} training images{mirrored}, and of "
        f"{len(dataset.held_out):,} held-out images: {size / 1e9:.2f} GB in {place.folder}. The "
        "files features-* can be removed after the run",
        highlight=False,
        markup=False,
    )

    def track(pieces: Iterable[Tensor], number: int) -> Iterable[Tensor]:
        return rich_track(
            pieces, "computing features", number, console=place.console, transient=True
        )

    found = {
        name: StoredSet(
            stores[name].complete(_computing(trunk, files, number, track)), files.targets
        )
        for name, (files, number) in sets.items()
    }
    features = FeatureSets(trunk.layout, found["train"], found["held-out"])
    return with_pseudo_labels(features, network) if recipe.pseudo_labels else features


def _computing(
    trunk: Trunk, files: ImageFiles, views: int, track: Track
) -> Callable[[int], Iterator[Rows]]:
    def compute(first: int) -> Iterator[Rows]:
        pieces = torch.arange(first // views, len(files)).split(AT_ONCE)
        for indices in track(pieces, len(pieces)):
            try:
                pixels = files.select(indices).decoded().pixels
            except DataError:
                raise files.damage() from None
            yield trunk.rows(pixels, views)

    return compute


def _store(folder: Path, name: str, trunk: Trunk, files: ImageFiles, views: int) -> Store:
    """Return the file of a set, whose name has a hash of all that decides its content."""
    images = hashlib.sha256()
    for row in files.rows.tolist():
        (one,) = files.encoded.read([row])
        try:
            images.update(hashlib.sha256(identity(one)).digest())
        except OSError as error:
            raise DataError(f"data: {files.source}, {one.name} cannot be read") from error
    decisive = {
        "version": VERSION,
        "images": images.hexdigest(),
        "size": files.size,
        "resizing": [files.resizing.filter, files.resizing.margin],
        "views": views,
        "shapes": trunk.layout.shapes,
    }
    if len(trunk.network.starts) > 1:
        decisive["sizes"] = [getattr(each, "smaller", files.size) for each in trunk.network.readers]
    parts = (trunk.network.normalize, trunk.network.stages)
    weights = {
        f"{k}.{n}": t.cpu() for k, part in enumerate(parts) for n, t in part.state_dict().items()
    }
    key = content_digest(json.dumps(decisive), {n: t.contiguous() for n, t in weights.items()})
    path = folder / f"features-{name}-{key[:16]}.f16"
    return Store(path, len(files) * views, trunk.layout.length)
