import re

import pytest

from benchmarks.training.photos.step_memory import main


def test_the_command_measures_time_and_memory(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "step_memory --recipe cifar-comparison --batch 6 --micro-batch 3 --steps 2"
    monkeypatch.setattr("sys.argv", command.split())
    assert main() == 0
    printed = capsys.readouterr().out
    assert re.search(r"each step +\d+ +\d+$", printed, re.MULTILINE)
    assert float(re.findall(r"peak memory, GB +(\d+\.\d)", printed)[0]) > 0
