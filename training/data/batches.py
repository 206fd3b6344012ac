"""The batches of an epoch: the images, their order, and the random changes to each.

All of this depends on seed, epoch and position alone. It does not depend on the number of
processes, the number of decoding workers, or an interruption of the epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from training.data.augment import Augment
from training.data.images import ImageFiles, Images
from training.data.loading.loader import Decoder, Loader
from training.distributed import processes, shard
from training.errors import RecipeError
from training.recipes import Recipe

EVALUATED_AT_ONCE = 500  # images
SAMPLED = 5000  # images, for their mean and deviation


def whole_batch(recipe: Recipe, train_images: int) -> int:
    """Return the number of images in each batch, over all processes.

    Raises:
        RecipeError: A batch cannot be divided evenly among the processes.
    """
    batch = min(recipe.batch_size, train_images)
    if batch % processes():
        remedy = f"give a --batch-size that is a multiple of {processes()}"
        if train_images < processes():
            remedy = "start at most as many processes as there are training images"
        raise RecipeError(
            f"batch_size: {batch} images cannot be divided evenly by {processes()} processes; "
            f"{remedy}"
        )
    return batch


class Batches(ABC):
    """The batches of a run.

    Args:
        recipe: Recipe of the run.
        train_images: Number of training images.
        held_out_images: Number of held-out images.
        device: Device to put batches on.

    Raises:
        RecipeError: A batch cannot be divided evenly among the processes.
    """

    def __init__(
        self, recipe: Recipe, train_images: int, held_out_images: int, device: torch.device
    ) -> None:
        batch = whole_batch(recipe, train_images)
        self.steps = max(1, train_images // recipe.batch_size)
        self.images_in_epoch = self.steps * batch
        self.held_out_images = held_out_images
        self._train_images = train_images
        self._held_out = shard(torch.arange(held_out_images))
        self._recipe = recipe
        self._device = device
        shift = recipe.shift if recipe.crop == "shifted" else 0
        self._augment = Augment(shift, recipe.flip, recipe.cutout, recipe.color_jitter)

    def epoch(self, number: int, first: int) -> Iterator[Images]:
        """Yield this process's shard of the batch of each step, augmented.

        Args:
            number: Number of the epoch, from 0.
            first: Step to start with, from 0.
        """
        recipe = self._recipe
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)
        order = torch.randperm(self._train_images, generator=rng)
        batches = torch.split(order, recipe.batch_size)[: self.steps]
        drawn = (shard(self._augment.draw(batch, number, recipe.size, rng)) for batch in batches)
        stored = self._train([shard(batch) for batch in batches[first:]], number)
        for images, changes in zip(stored, islice(drawn, first, None), strict=True):
            yield self._augmented(images, changes.to(self._device))

    @abstractmethod
    def held_out(self) -> Iterator[Images]:
        """Yield this process's shard of the held-out images, in batches."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Return pixels uint8 [N, H, W, 3] of training images, for statistics, on the CPU."""

    def _augmented(self, images: Images, drawn: Tensor) -> Images:
        """Change images as `Augment.draw` has drawn."""
        return Images(self._augment(images.pixels, drawn), images.targets)

    def _sample_indices(self) -> Tensor:
        """Return indices spread evenly over the data set, which can be sorted by class."""
        count = min(SAMPLED, self._train_images)
        return torch.arange(count) * self._train_images // count

    @abstractmethod
    def _train(self, batches: Sequence[Tensor], epoch: int) -> Iterable[Images]:
        """Yield the training images at these indices, [n] each, on the device."""


class MemoryBatches(Batches):
    """Batches of images that are all on the device."""

    def __init__(
        self, recipe: Recipe, train: Images, held_out: Images, device: torch.device
    ) -> None:
        super().__init__(recipe, len(train), len(held_out), device)
        if recipe.crop == "resized":
            raise RecipeError("crop: `resized` needs images on disk, these are in memory")
        self._sample = train.pixels[self._sample_indices()]
        self._images = train.to(device)
        self._evaluated = held_out.select(self._held_out).to(device)

    def held_out(self) -> Iterator[Images]:
        """See Batches."""
        for indices in torch.arange(len(self._evaluated)).split(EVALUATED_AT_ONCE):
            yield self._evaluated.select(indices.to(self._device))

    def sample(self) -> Tensor:
        """See Batches."""
        return self._sample

    def _train(self, batches: Sequence[Tensor], epoch: int) -> Iterable[Images]:
        del epoch
        for indices in batches:
            yield self._images.select(indices.to(self._device))


class DiskBatches(Batches):
    """Batches of images that `workers` processes read and decode (0: this process)."""

    def __init__(
        self,
        recipe: Recipe,
        train: ImageFiles,
        held_out: ImageFiles,
        device: torch.device,
        workers: int,
    ) -> None:
        super().__init__(recipe, len(train), len(held_out), device)
        train = replace(train, smallest_crop=recipe.crop_area)
        self._files, self._held_out_files = train, held_out
        seed = recipe.seed if recipe.crop == "resized" else None
        self._loader = Loader(
            Decoder(train, held_out, seed), workers, pin_memory=device.type == "cuda"
        )

    def held_out(self) -> Iterator[Images]:
        """See Batches."""
        return self._read(self._held_out.split(EVALUATED_AT_ONCE), None)

    def sample(self) -> Tensor:
        """See Batches."""
        return self._files.select(self._sample_indices()).decoded().pixels

    def _train(self, batches: Sequence[Tensor], epoch: int) -> Iterable[Images]:
        return self._read(batches, epoch)

    def _read(self, batches: Sequence[Tensor], epoch: int | None) -> Iterator[Images]:
        # a process can have no held-out image
        for decoded in self._loader.read([batch for batch in batches if len(batch)], epoch):
            if isinstance(decoded, str):
                raise (self._held_out_files if epoch is None else self._files).damage()
            yield Images(*decoded).to(self._device)


def new_batches(
    recipe: Recipe,
    train: Images | ImageFiles,
    held_out: Images | ImageFiles,
    device: torch.device,
    workers: int,
) -> Batches:
    """Build the batches of images in memory or on disk (see Batches)."""
    if isinstance(train, Images):
        return MemoryBatches(recipe, train, held_out.decoded(), device)
    assert isinstance(held_out, ImageFiles)
    return DiskBatches(recipe, train, held_out, device, workers)
