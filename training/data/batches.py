"""The batches of an epoch: the images, their order, and the random changes to each.

All of this depends on seed, epoch and position alone. It does not depend on the number of
processes, the number of decoding workers, or an interruption of the epoch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.data.augment import Augment
from training.data.images import ImageFiles, Images
from training.distributed import processes, shard
from training.errors import DataError, RecipeError
from training.recipes import Recipe

EVALUATED_AT_ONCE = 500  # images
Decoded = tuple[Tensor, Tensor] | str  # pixels and labels of a batch, or an error text
SAMPLED = 5000  # images, for their mean and deviation


class Batches(ABC):
    """The batches of a run.

    Args:
        recipe: recipe of the run.
        train_images: number of training images.
        held_out_images: number of held-out images.
        device: device to put batches on.

    Raises:
        RecipeError: a batch cannot be divided evenly among the processes.
    """

    def __init__(
        self, recipe: Recipe, train_images: int, held_out_images: int, device: torch.device
    ) -> None:
        batch = min(recipe.batch_size, train_images)
        if batch % processes():
            raise RecipeError(
                f"batch_size: {batch} images cannot be divided evenly by {processes()} processes"
            )
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
            number: number of the epoch, from 0.
            first: step to start with, from 0.
        """
        recipe = self._recipe
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)
        order = torch.randperm(self._train_images, generator=rng)
        batches = torch.split(order, recipe.batch_size)[: self.steps]
        drawn = (shard(self._augment.draw(batch, number, recipe.size, rng)) for batch in batches)
        stored = self._train([shard(batch) for batch in batches[first:]], number)
        for images, changes in zip(stored, islice(drawn, first, None), strict=True):
            yield Images(self._augment(images.pixels, changes.to(self._device)), images.targets)

    @abstractmethod
    def held_out(self) -> Iterator[Images]:
        """Yield this process's shard of the held-out images, in batches."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Return pixels uint8 [N, H, W, 3] of training images, for statistics, on the CPU."""

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
        self._plan = _Plan()
        seed = recipe.seed if recipe.crop == "resized" else None
        self._loader: DataLoader[Decoded] = DataLoader(
            _Decoder(train, held_out, seed),  # type: ignore[arg-type] # the loader calls __getitems__ alone
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=device.type == "cuda",
            multiprocessing_context=_workers_context() if workers else None,
            persistent_workers=workers > 0,
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
        self._plan.batches, self._plan.epoch = batches, epoch
        for decoded in self._loader:
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


class _Key(NamedTuple):
    """A training image in an epoch (from 0), or a held-out image (epoch `None`)."""

    epoch: int | None
    position: int


@dataclass(slots=True)
class _Plan:
    """The batches that the loader reads next."""

    batches: Sequence[Tensor] = ()
    epoch: int | None = None

    def __iter__(self) -> Iterator[list[_Key]]:
        for indices in self.batches:
            yield [_Key(self.epoch, i) for i in indices.tolist()]

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True, slots=True)
class _Decoder:
    """The decoder in a worker. `seed` is that of random crops. `None`: the middle of an image."""

    train: ImageFiles
    held_out: ImageFiles
    seed: int | None

    def __getitems__(self, keys: Sequence[_Key]) -> Decoded:
        """Decode the images of a batch, or return the error text if one of them is damaged."""
        epoch = keys[0].epoch
        files = self.held_out if epoch is None else self.train
        chosen = files.select(torch.tensor([key.position for key in keys]))
        try:
            pixels = [
                files.pixels(file, self._crop(key))
                for key, file in zip(keys, chosen.files(), strict=True)
            ]
        except DataError as error:  # an exception from a worker would include its traceback
            return str(error)
        return torch.from_numpy(np.stack(pixels)), chosen.targets

    def _crop(self, key: _Key) -> np.random.Generator | None:
        if self.seed is None or key.epoch is None:
            return None
        return np.random.default_rng((self.seed, key.epoch, key.position))


def _unchanged(batch: Any) -> Any:  # noqa: ANN401 (torch's types expect a list)
    return batch


def _workers_context() -> BaseContext:
    """Fork workers from a clean process: this one can have threads and a GPU context."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["training.data.batches"])
    return context
