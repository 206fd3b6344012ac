"""A run on cached features is resumed bit for bit, and its trunk never changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from tests.training.pretrained import original, retrofit, write_weights
from tests.training.samples import TINY
from training.data.datasets import open_dataset
from training.fit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from training.fit.features.cache import Place, run_features
from training.fit.trainer import Trainer

CPU = torch.device("cpu")


def states(of: Checkpoint) -> list[dict[str, Tensor]]:
    return [of.weights, of.objective, of.optimizers, of.training_state]


@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "objective": "distillation"}])
def test_a_run_on_cached_features_is_resumed_bit_for_bit_and_keeps_the_trunk(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    cached = {"cache_features": True, "shift": 0, **options}
    path = write_weights(tmp_path / "w.safetensors")
    progress, pretrained = retrofit(path, keep_head=True, **cached)
    files = open_dataset(TINY.data, TINY.size, TINY.held_out, TINY.seed)
    place = Place(tmp_path, CPU, Console(quiet=True))

    def epochs(path: Path, number: int) -> Checkpoint:
        saved = load_checkpoint(path) if path.exists() else None
        features = run_features(progress, files, saved, None if saved else pretrained, place)
        assert features
        trainer = Trainer(
            progress, files, CPU, pretrained=None if saved else pretrained, features=features
        )
        if saved:
            trainer.restore(saved)
        for _ in range(number):
            trainer.run_epoch(lambda batches, _: batches)
        save_checkpoint(path, trainer.checkpoint())
        return trainer.checkpoint()

    whole = epochs(tmp_path / "whole", 2)
    for _ in range(2):
        parts = epochs(tmp_path / "parts", 1)
    assert parts.progress.epochs[1].loss == whole.progress.epochs[1].loss
    for one, other in zip(states(parts), states(whole), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    given = original().state_dict()
    for name, tensor in whole.weights.items():
        kept = name.startswith(("stages", "heads.2", "normalize"))
        assert torch.equal(tensor, given[name]) == kept, name
