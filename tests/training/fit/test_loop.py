"""The checkpoints that the loop of a run writes."""

from pathlib import Path

import torch

from tests.training.samples import tiny_dataset, tiny_progress
from training.fit.checkpoint import load_checkpoint
from training.fit.loop import fit
from training.fit.trainer import Trainer
from training.output_folder import kept_path


def test_checkpoints_of_some_epochs_stay(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    trainer = Trainer(tiny_progress(epochs=3), tiny_dataset(), torch.device("cpu"))
    fit(
        trainer,
        path,
        resume=False,
        track=lambda batches, _: batches,
        report=lambda _: None,
        keep_every=2,
    )
    assert sorted(one.name for one in tmp_path.iterdir()) == ["c-0002.safetensors", path.name]
    assert len(load_checkpoint(kept_path(path, 2)).progress.epochs) == 2


def test_a_checkpoint_that_an_interruption_left_out_is_written_at_resume(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    for resume in (False, True):
        trainer = Trainer(tiny_progress(epochs=2), tiny_dataset(), torch.device("cpu"))
        fit(
            trainer,
            path,
            resume=resume,
            track=lambda batches, _: batches,
            report=lambda _: None,
            keep_every=2 if resume else None,
        )
    assert len(load_checkpoint(kept_path(path, 2)).progress.epochs) == 2
