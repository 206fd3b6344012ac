"""The cache of a frozen trunk's features: computed once for each view of each image.

The files are named by a hash of all that decides the features: the weights of the trunk, the
images, their size and resizing, and the views. A run with the same ones reads them from there.
Features are kept as float16. A value that float16 cannot hold is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.progress import track as rich_track
from torch import Tensor

from training.data.datasets import Dataset
from training.data.images import ImageFiles
from training.distributed import processes
from training.errors import RecipeError
from training.fit.checkpoint import Checkpoint, Progress
from training.fit.exported import on_device
from training.fit.features.batches import FeatureSets
from training.fit.features.image_set import ImageSet, image_set
from training.fit.features.layout import layout_of
from training.fit.features.pseudo_labels import with_pseudo_labels
from training.fit.features.store import check_room
from training.fit.features.trunk import Trunk
from training.fit.initial import initial_network
from training.fit.same_run import check_same_run
from training.networks.multi_exit import MultiExitNetwork
from training.networks.weights import Pretrained
from training.recipes import Recipe


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
        progress: Start of the run.
        dataset: Images of the run.
        checkpoint: Checkpoint that the run continues, if any.
        pretrained: Weights that the run starts from, if it starts.
        place: Where the features are computed and kept.

    Raises:
        CheckpointError: The images are not those of the checkpoint.
        TrainingError: See `cached_features`.
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
        recipe: Recipe of the run.
        network: Network with the trunk of the run. It is put into eval mode on the device.
        dataset: Images of the run.
        place: Where the features are computed and kept. The folder is made.

    Raises:
        RecipeError: There are several processes.
        DataError: An image is damaged, the disk has no room, another run writes the cache, or a
            feature does not fit float16.
        UnwritableFileError: The cache cannot be written.
    """
    if processes() > 1:
        raise RecipeError(
            "cache_features: training heads on cached features takes one process; start it without "
            "torchrun"
        )
    network = on_device(network.eval(), place.device)
    trunk = Trunk(network, layout_of(network, recipe.size), place.device, recipe.backbone)
    train = image_set(place.folder, "train", trunk, dataset.train, 2 if recipe.flip else 1)
    held_out = image_set(place.folder, "held-out", trunk, dataset.held_out, 1)
    _announce(train, held_out, place)

    def track(pieces: Iterable[Tensor], number: int) -> Iterable[Tensor]:
        return rich_track(
            pieces, "computing features", number, console=place.console, transient=True
        )

    features = FeatureSets(
        trunk.layout, train.complete(trunk, track), held_out.complete(trunk, track)
    )
    return with_pseudo_labels(features, network) if recipe.pseudo_labels else features


def _announce(train: ImageSet, held_out: ImageSet, place: Place) -> None:
    """Check that the features fit on the disk, and print their size."""
    size = check_room([train.store, held_out.store])
    mirrored = " and their mirror images" if train.views == 2 else ""
    place.console.print(
        f"features of {len(train.files):,} training images{mirrored}, and of "
        f"{len(held_out.files):,} held-out images: {size / 1e9:.2f} GB in {place.folder}. The "
        "files features-* can be removed after the run",
        highlight=False,
        markup=False,
    )
