import pytest

from benchmarks.engine.gpu import goals, main


def test_goals_use_the_worst_ratio_and_the_median_share() -> None:
    found = {"engine, full": [80.0, 90.0, 50.0], "ONNX Runtime, batch 8": [100.0, 100.0, 100.0]}
    sizes, share = goals([1.1, 1.3], found)
    assert (sizes.figure, sizes.met) == ("1.30", False)
    assert (share.figure, share.met) == ("0.80", True)


def test_the_command_runs_without_a_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "gpu --provider cpu --max-batch 2 --call 2 --images 8 --rounds 1"
    monkeypatch.setattr("sys.argv", command.split())
    assert main() in (0, 1)
    printed = capsys.readouterr().out
    for line in ("engine, full", "engine, medium", "ONNX Runtime, batch", "torch, batch"):
        assert line in printed
    assert "44 for each evaluated exit" in printed, "a confidence and 10 probabilities"
