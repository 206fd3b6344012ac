from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from samples import tiny_progress

from training.checkpoint import (
    FORMAT,
    Checkpoint,
    load_checkpoint,
    new_network,
    save_checkpoint,
)
from training.errors import CheckpointError


def tiny_checkpoint() -> Checkpoint:
    progress = tiny_progress()
    network = new_network(progress.recipe, 10)
    return Checkpoint(
        progress, network.state_dict(), {"bargain": torch.ones(2)}, {"0/1": torch.arange(3.0)}
    )


def test_round_trip(tmp_path: Path) -> None:
    saved = tiny_checkpoint()
    save_checkpoint(tmp_path / "c.safetensors", saved)
    loaded = load_checkpoint(tmp_path / "c.safetensors")
    assert loaded.progress == saved.progress
    assert torch.equal(loaded.optimizers["0/1"], torch.arange(3.0))
    for name, tensor in loaded.network().state_dict().items():
        assert torch.equal(tensor, saved.weights[name])
    assert not loaded.network().training
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_what_is_no_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        load_checkpoint(path)
    path.write_bytes(b"\x80\x04 a pickle, say")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    save_file({"w": torch.ones(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint that"):
        load_checkpoint(path)
    save_file({"w": torch.ones(2)}, path, {"format": FORMAT, "progress": "{}"})
    with pytest.raises(CheckpointError, match="header is damaged"):
        load_checkpoint(path)


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, tiny_checkpoint())
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)


def test_weights_of_another_network_are_refused() -> None:
    checkpoint = tiny_checkpoint()
    del checkpoint.weights["heads.0.linear.bias"]
    with pytest.raises(CheckpointError, match=r"heads\.0\.linear\.bias"):
        checkpoint.network()
