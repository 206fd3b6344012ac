"""Runs that are resumed, or read their images from disk, equal others bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.fit.runs import BATCH, CPU, IMAGES, trained, untracked
from tests.training.samples import TINY, tiny_progress
from training.data.datasets import Dataset, open_dataset
from training.data.images import ImageFiles
from training.fit.checkpoint import load_checkpoint, save_checkpoint
from training.fit.loop import fit
from training.fit.trainer import Trainer


def assert_same_run(one: Path, other: Path) -> None:
    """Compare two runs bit for bit."""
    first, second = load_checkpoint(one), load_checkpoint(other)
    losses = [[epoch.loss for epoch in run.progress.epochs] for run in (first, second)]
    assert losses[0] == losses[1]
    for a, b in (
        (first.weights, second.weights),
        (first.objective, second.objective),
        (first.optimizers, second.optimizers),
        (first.training_state, second.training_state),
    ):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)


def some_files() -> Dataset[ImageFiles]:
    """Return the images of `trained` as files."""
    files = open_dataset(TINY.data, TINY.size, TINY.held_out, TINY.seed)
    return replace(files, train=files.train.select(torch.arange(IMAGES)))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "sgd", "schedule": "linear", "small_size": 24, "small_epochs": 1},
        {"optimizer": "muon", "micro_batch": 40},
        {"optimizer": "adamw", "lr": 2e-3, "trunk_lr": 3e-4, "layer_decay": 0.8},
        {"ema": 0.9},
        {"first_size": 16, "first_weights": "shared", "ema": 0.9},
        {"mixup": 0.4, "color_jitter": 0.3, "class_weights": "balanced"},
        {"objective": "distillation", "objective_options": {"ramp": 0.75, "scaled": True}},
        {"ema": 0.9, "patience": 1, "epochs": 4, "lr": 1e-5},
        {"objective": "distillation"},
        {"surgery_rule": "conflict", "conflict_scale": 0.2, "conflict_decay": 0.7},
        {"objective": "pcgrad"},
        {"objective": "nash-mtl"},
        {"objective": "meta-gf"},
    ],
    ids=lambda options: "-".join(str(value) for value in options.values()),
)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    reports = trained(whole, **options)
    first = trained(parts, stop_after=1, **options)
    second = trained(parts, resume=True, **options)
    assert [r.loss for r in first + second] == [r.loss for r in reports]
    assert_same_run(whole, parts)


def test_a_run_resumed_within_an_epoch_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """The run has dropout, cutout and an objective with state."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trained(whole, objective="pcgrad")
    trained(parts, stop_after=1, stop_in=3, save_every=2, objective="pcgrad")
    assert load_checkpoint(parts).progress.running.steps == 2
    trained(parts, resume=True, objective="pcgrad")
    assert_same_run(whole, parts)


def test_training_from_disk_equals_training_from_memory(tmp_path: Path) -> None:
    trained(tmp_path / "memory", epochs=1)
    trainer = Trainer(tiny_progress(epochs=1, batch_size=BATCH), some_files(), CPU)
    fit(trainer, tmp_path / "disk", resume=False, track=untracked, report=lambda _: None)
    assert_same_run(tmp_path / "memory", tmp_path / "disk")


def test_random_parts_of_growing_size_are_resumed_bit_for_bit(tmp_path: Path) -> None:
    options = {"crop": "resized", "crop_area": 0.5, "color_jitter": 0.2}
    options |= {"small_size": 24, "small_epochs": 1, "batch_size": BATCH}
    files = some_files()

    def epochs(path: Path, number: int) -> None:
        trainer = Trainer(tiny_progress(**options), files, CPU)
        if path.exists():
            trainer.restore(load_checkpoint(path))
        for _ in range(number):
            trainer.run_epoch(untracked)
        save_checkpoint(path, trainer.checkpoint())

    epochs(tmp_path / "whole", 2)
    for _ in range(2):
        epochs(tmp_path / "parts", 1)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
