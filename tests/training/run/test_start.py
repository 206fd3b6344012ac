"""A run that is resumed keeps what its checkpoint says."""

from pathlib import Path

import pytest

from tests.training.pretrained import write_weights
from tests.training.samples import LABELS, PARQUET
from training.__main__ import main


def test_a_run_without_labels_is_resumed_with_its_class_names_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    options = [
        *("photos-unlabelled", "--keep-head", "--device=cpu", "--epochs=1", "--held-out=100"),
        *("--size=32", "--shape.width=0.25", "--shape.hidden=16", "--shape.exits=[0.5]"),
        *(f"--class-names={names}", f"--data={PARQUET}", f"--out={tmp_path / 'run'}"),
    ]
    names.write_text("\n".join(LABELS), encoding="utf-8")
    assert main([*options, f"--weights={write_weights(tmp_path / 'w.safetensors')}"]) == 0
    names.write_text("\n".join(reversed(LABELS)), encoding="utf-8")
    assert main([*options, "--resume"]) == 1
    assert "error: class_names: the run to resume has other names" in capsys.readouterr().err
    names.unlink()
    assert main([*options, "--resume"]) == 0
