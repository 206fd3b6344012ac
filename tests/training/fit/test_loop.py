"""The checkpoints that the loop of a run writes."""

from pathlib import Path

import torch

from tests.training.samples import tiny_dataset, tiny_progress
from training.fit.checkpoint import load_checkpoint
from training.fit.loop import fit
from training.fit.trainer import Trainer
from training.output_folder import kept_path


def run(path: Path, epochs: int, keep_every: int | None, *, resume: bool = False) -> None:
    fit(
        Trainer(tiny_progress(epochs=epochs), tiny_dataset(), torch.device("cpu")),
        path,
        resume=resume,
        track=lambda batches, _: batches,
        report=lambda _: None,
        keep_every=keep_every,
    )


def test_checkpoints_of_some_epochs_stay(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    run(path, 3, keep_every=2)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c-0002.safetensors", path.name]
    assert len(load_checkpoint(kept_path(path, 2)).progress.epochs) == 2


def test_a_checkpoint_that_an_interruption_left_out_is_written_at_resume(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    run(path, 2, keep_every=None)
    run(path, 2, keep_every=2, resume=True)
    assert len(load_checkpoint(kept_path(path, 2)).progress.epochs) == 2


def test_a_checkpoint_of_another_run_does_not_stay(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    kept_path(path, 2).write_bytes(b"of a run before")
    run(path, 2, keep_every=2)
    assert len(load_checkpoint(kept_path(path, 2)).progress.epochs) == 2
