"""Processes that read and decode images on disk, and end with the run."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from training.data.images import ImageFiles
from training.errors import DataError, RecipeError

Decoded = tuple[Tensor, Tensor] | str  # pixels and labels of a batch, or an error text


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
class Decoder:
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


class Loader:
    """A torch DataLoader of batches that are chosen for each pass.

    Args:
        decoder: Decoder of a batch.
        workers: Processes that decode (0: this process).
        pin_memory: True to put batches into pinned memory, for a GPU.
    """

    def __init__(self, decoder: Decoder, workers: int, *, pin_memory: bool) -> None:
        self._plan = _Plan()
        self._loader: DataLoader[Decoded] = DataLoader(
            decoder,  # type: ignore[arg-type] # the loader calls __getitems__ alone
            batch_sampler=self._plan,
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
            multiprocessing_context=_workers_context() if workers else None,
            worker_init_fn=_end_with_run,
            persistent_workers=workers > 0,
        )

    def read(self, batches: Sequence[Tensor], epoch: int | None) -> Iterator[Decoded]:
        """Yield the decoded batches of images at these positions, [n] each.

        Args:
            batches: Positions of training images, or with `epoch=None` of held-out images.
            epoch: Number of the epoch, from 0.

        Raises:
            RecipeError: A process ended unexpectedly, for example because memory ran out.
        """
        self._plan.batches, self._plan.epoch = batches, epoch
        try:
            yield from self._loader
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            raise RecipeError(
                "workers: a process that decodes images was killed, perhaps because memory or "
                "/dev/shm is full; give fewer --workers, and continue with --resume"
            ) from error


def _unchanged(batch: Any) -> Any:  # noqa: ANN401 (torch's types expect a list)
    return batch


def _workers_context() -> BaseContext:
    """Fork workers from a clean process: this one can have threads and a GPU context."""
    context = get_context("forkserver")
    # this process has imported `datasets` if the images are in a table
    tables = [name for name in ("datasets",) if name in sys.modules]
    context.set_forkserver_preload(["training.data.loading.fork_server", *tables])
    return context


def _end_with_run(_worker: int) -> None:
    """End this worker as soon as the run has ended, however that happened.

    torch's own check compares the parent's process id, which is that of the fork server. The fork
    server ends after its last worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run ends its workers after Ctrl-C
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)  # also while another thread decodes

    threading.Thread(target=watch, daemon=True, name="parent").start()
