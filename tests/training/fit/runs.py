"""Runs of the tiny recipe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from tests.training.samples import tiny_dataset, tiny_progress
from training.data.datasets import Dataset
from training.data.images import Images
from training.fit.checkpoint import Epoch
from training.fit.loop import fit
from training.fit.trainer import Trainer

CPU = torch.device("cpu")
IMAGES, BATCH = 200, 50  # four batches an epoch


def untracked(batches: Iterable[Images], _: int) -> Iterable[Images]:
    return batches


def some_images() -> Dataset[Images]:
    """Return half of the training images."""
    dataset = tiny_dataset()
    return replace(dataset, train=dataset.train.select(torch.arange(IMAGES)))


def trained(
    path: Path,
    *,
    stop_after: int | None = None,
    stop_in: int = 1,
    resume: bool = False,
    save_every: int | None = None,
    **recipe: object,
) -> list[Epoch]:
    """Run the tiny recipe; stop as by Ctrl-C, `stop_in` a step after `stop_after` epochs."""
    trainer = Trainer(tiny_progress(**{"batch_size": BATCH, **recipe}), some_images(), CPU)
    reports: list[Epoch] = []

    def track(batches: Iterable[Images], _: int) -> Iterable[Images]:
        for i, batch in enumerate(batches):
            if i == stop_in and len(trainer.progress.epochs) == stop_after:
                raise KeyboardInterrupt
            yield batch

    try:
        fit(
            trainer,
            path,
            resume=resume,
            track=track,
            report=reports.append,
            save_every=save_every,
        )
    except KeyboardInterrupt:
        assert stop_after is not None
    return reports
