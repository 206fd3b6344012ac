import re
from pathlib import Path

import pytest
import torch

from benchmarks.training.photos.retrofit import main
from tests.training.pretrained import retrofit, write_weights
from tests.training.samples import PARQUET, tiny_dataset
from training.fit.checkpoint import save_checkpoint
from training.fit.trainer import Trainer


def test_the_command_compares_exits_with_and_without_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, pretrained = retrofit(write_weights(tmp_path / "w.safetensors"), keep_head=True)
    trainer = Trainer(progress, tiny_dataset(), torch.device("cpu"), pretrained=pretrained)
    save_checkpoint(tmp_path / "c.safetensors", trainer.checkpoint())
    cache = tmp_path / "cache"
    command = f"retrofit --checkpoint {tmp_path / 'c.safetensors'} --test {PARQUET}"
    monkeypatch.setattr("sys.argv", [*command.split(), "--cache", str(cache), "--epochs", "1"])
    assert main() == 0
    printed = capsys.readouterr().out
    assert "test images: 500" in printed
    number = r" +(\d+\.\d)"
    for name in ("labels", "labels and full depth", "no labels"):
        row = re.search(rf"^{name}{6 * number} +\d+ s of CPU time$", printed, re.MULTILINE)
        assert row is not None
        assert row[6] == "100.0", "the kept head agrees with itself"
    assert len(list(cache.glob("*.f16"))) == 2
