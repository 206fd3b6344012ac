"""The batches of an epoch: which images, in which order, and what chance does to each.

All of it follows from seed, epoch and position alone: it does not depend on how many processes
share a batch, on how many workers decode, or on whether an epoch was interrupted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
from training.distributed import processes, share
from training.errors import DataError, RecipeError
from training.recipes import Recipe

EVALUATED_AT_ONCE = 500  # images
Read = tuple[Tensor, Tensor] | str  # a batch's pixels and labels, or what is wrong with it
SAMPLED = 5000  # images, for their mean and deviation


class Feed(ABC):
    """Where a run's batches come from.

    Args:
        recipe: what decides them.
        train_images: how many there are to train on.
        held_out_images: how many there are to evaluate on.
        device: where batches are wanted.

    Raises:
        RecipeError: a batch cannot be shared evenly among the processes.
    """

    def __init__(
        self, recipe: Recipe, train_images: int, held_out_images: int, device: torch.device
    ) -> None:
        batch = min(recipe.batch_size, train_images)
        if batch % processes():
            raise RecipeError(
                f"batch_size: {batch} images cannot be shared evenly by {processes()} processes"
            )
        self.steps = max(1, train_images // recipe.batch_size)
        self.images_in_epoch = self.steps * batch
        self.held_out_images = held_out_images
        self._train_images = train_images
        self._held_out = share(torch.arange(held_out_images))
        self._recipe = recipe
        self._device = device
        shift = recipe.shift if recipe.crop == "shifted" else 0
        self._augment = Augment(shift, recipe.flip, recipe.cutout)

    def epoch(self, number: int, first: int) -> Iterator[Images]:
        """This process's share of each step's batch, augmented.

        Args:
            number: of the epoch, counted from 0.
            first: step to begin with, counted from 0.
        """
        recipe = self._recipe
        rng = torch.Generator().manual_seed(recipe.seed * 1_000_003 + number)
        order = torch.randperm(self._train_images, generator=rng)
        batches = torch.split(order, recipe.batch_size)[: self.steps]
        drawn = (share(self._augment.draw(batch, number, recipe.size, rng)) for batch in batches)
        fed = self._train([share(batch) for batch in batches[first:]], number)
        for images, how in zip(fed, islice(drawn, first, None), strict=True):
            yield Images(self._augment(images.pixels, how.to(self._device)), images.targets)

    @abstractmethod
    def held_out(self) -> Iterator[Images]:
        """This process's share of the held-out images, in batches."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Pixels uint8 [N, H, W, 3] of training images to take statistics of, on the CPU."""

    def _spread(self) -> Tensor:
        """Which those are: evenly from the whole set, which may be in the order of its classes."""
        count = min(SAMPLED, self._train_images)
        return torch.arange(count) * self._train_images // count

    @abstractmethod
    def _train(self, batches: Sequence[Tensor], epoch: int) -> Iterable[Images]:
        """The training images at these indices, [n] each, on the device."""


class MemoryFeed(Feed):
    """All images are held on the device."""

    def __init__(
        self, recipe: Recipe, train: Images, held_out: Images, device: torch.device
    ) -> None:
        super().__init__(recipe, len(train), len(held_out), device)
        if recipe.crop == "resized":
            raise RecipeError("crop: parts of any size are cut from images on disk, not in memory")
        self._sample = train.pixels[self._spread()]
        self._images = train.to(device)
        self._evaluated = held_out.select(self._held_out).to(device)

    def held_out(self) -> Iterator[Images]:
        """See Feed."""
        for indices in torch.arange(len(self._evaluated)).split(EVALUATED_AT_ONCE):
            yield self._evaluated.select(indices.to(self._device))

    def sample(self) -> Tensor:
        """See Feed."""
        return self._sample

    def _train(self, batches: Sequence[Tensor], epoch: int) -> Iterable[Images]:
        del epoch
        for indices in batches:
            yield self._images.select(indices.to(self._device))


class DiskFeed(Feed):
    """Images are read and decoded when their turn comes, by `workers` processes (0: by this)."""

    def __init__(
        self,
        recipe: Recipe,
        train: ImageFiles,
        held_out: ImageFiles,
        device: torch.device,
        workers: int,
    ) -> None:
        super().__init__(recipe, len(train), len(held_out), device)
        self._files = train
        self._plan = _Plan()
        seed = recipe.seed if recipe.crop == "resized" else None
        self._loader: DataLoader[Read] = DataLoader(
            _Decoder(train, held_out, seed),  # type: ignore[arg-type] # it has __getitem__, which is all that is called
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=device.type == "cuda",
            multiprocessing_context=_workers_context() if workers else None,
            persistent_workers=workers > 0,
        )

    def held_out(self) -> Iterator[Images]:
        """See Feed."""
        return self._read(self._held_out.split(EVALUATED_AT_ONCE), None)

    def sample(self) -> Tensor:
        """See Feed."""
        return self._files.select(self._spread()).decoded().pixels

    def _train(self, batches: Sequence[Tensor], epoch: int) -> Iterable[Images]:
        return self._read(batches, epoch)

    def _read(self, batches: Sequence[Tensor], epoch: int | None) -> Iterator[Images]:
        self._plan.batches, self._plan.epoch = batches, epoch
        for read in self._loader:
            if isinstance(read, str):
                raise DataError(read)
            yield Images(*read).to(self._device)


def new_feed(
    recipe: Recipe,
    train: Images | ImageFiles,
    held_out: Images | ImageFiles,
    device: torch.device,
    workers: int,
) -> Feed:
    """What suits images that are held where these are; see Feed."""
    if isinstance(train, Images):
        return MemoryFeed(recipe, train, held_out.decoded(), device)
    assert isinstance(held_out, ImageFiles)
    return DiskFeed(recipe, train, held_out, device, workers)


class _Key(NamedTuple):
    """An image: of an epoch (from 0) of the training set, or held out."""

    epoch: int | None
    position: int


@dataclass(slots=True)
class _Plan:
    """What the loader is to read next."""

    batches: Sequence[Tensor] = ()
    epoch: int | None = None

    def __iter__(self) -> Iterator[list[_Key]]:
        for indices in self.batches:
            yield [_Key(self.epoch, i) for i in indices.tolist()]

    def __len__(self) -> int:
        return len(self.batches)


@dataclass(frozen=True, slots=True)
class _Decoder:
    """What runs in a worker. `seed` is of random crops; None: the middle of an image."""

    train: ImageFiles
    held_out: ImageFiles
    seed: int | None

    def __getitems__(self, keys: Sequence[_Key]) -> Read:
        """The images of a batch, decoded; or what is wrong with one of them."""
        epoch = keys[0].epoch
        files = self.held_out if epoch is None else self.train
        chosen = files.select(torch.tensor([key.position for key in keys]))
        try:
            pixels = [
                files.pixels(file, self._crop(key))
                for key, file in zip(keys, chosen.files(), strict=True)
            ]
        except DataError as error:  # a worker's own error would come with its traceback
            return str(error)
        return torch.from_numpy(np.stack(pixels)), chosen.targets

    def _crop(self, key: _Key) -> np.random.Generator | None:
        if self.seed is None or key.epoch is None:
            return None
        return np.random.default_rng((self.seed, key.epoch, key.position))


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 (torch's types expect a list)
    return batch


def _workers_context() -> BaseContext:
    """Workers forked from a clean process: this one may have threads and a GPU's context."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["training.data.batches"])
    return context
