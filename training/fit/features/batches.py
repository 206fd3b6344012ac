"""The batches of an epoch from stored features: the images and their mirror images in turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.augment import mirrored
from training.data.batches import EVALUATED_AT_ONCE, Batches, new_batches
from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images
from training.fit.features.layout import Layout
from training.fit.features.store import Rows
from training.recipes import Recipe


@dataclass(frozen=True, slots=True)
class StoredSet:
    """Features of a set of images.

    Attributes:
        rows: Features, float16 [N * views, length]. The views of an image follow one another: the
            image itself, and its mirror image if there are two.
        targets: Labels, int64 [N].
    """

    rows: Rows
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def views(self) -> int:
        """Number of views of each image."""
        return len(self.rows) // len(self.targets)

    def select(self, indices: Tensor, view: Tensor | int = 0) -> Images:
        """Return the features of images, in place of pixels, and their labels.

        Args:
            indices: Positions of the images, int64 [n].
            view: View of each image, int64 [n] or one for all.
        """
        rows = torch.from_numpy(self.rows[(indices * self.views + view).numpy()])
        return Images(rows, self.targets[indices])


@dataclass(frozen=True, slots=True)
class FeatureSets:
    """Features of the training and of the held-out images of a run, and their layout."""

    layout: Layout
    train: StoredSet
    held_out: StoredSet


class FeatureBatches(Batches):
    """Batches of stored features [n, length], in place of pixels."""

    def __init__(self, recipe: Recipe, sets: FeatureSets, device: torch.device) -> None:
        super().__init__(recipe, len(sets.train), len(sets.held_out), device)
        self._sets = sets

    def held_out(self) -> Iterator[Images]:
        """See Batches."""
        for indices in self._held_out.split(EVALUATED_AT_ONCE):
            yield self._sets.held_out.select(indices).to(self._device)

    def sample(self) -> Tensor:
        """Raise AssertionError: the pixels' statistics are those of the trunk's weights."""
        raise AssertionError("stored features have no pixels")

    def _train(self, batches: Sequence[Tensor], epoch: int) -> Iterable[Images]:
        train = self._sets.train
        for indices in batches:
            view = mirrored(indices, epoch) if train.views == 2 else 0
            yield train.select(indices, view).to(self._device)

    def _augmented(self, images: Images, _drawn: Tensor) -> Images:
        return images  # mirrored before the trunk


def run_batches(
    recipe: Recipe,
    dataset: Dataset[Images] | Dataset[ImageFiles],
    features: FeatureSets | None,
    device: torch.device,
    workers: int,
) -> Batches:
    """Return the batches of a run: of its stored features if it has them, else of its images.

    Args:
        recipe: Recipe of the run.
        dataset: Images of the run.
        features: Features of the images. `None`: the images are read.
        device: Device to put batches on.
        workers: Processes that decode images on disk.
    """
    if features:
        return FeatureBatches(recipe, features, device)
    return new_batches(recipe, dataset.train, dataset.held_out, device, workers)
