from benchmarks.engine.gpu import goals, main


def test_goals_by_hand() -> None:
    found = {"engine, full": [80.0, 90.0, 50.0], "ONNX Runtime, batch 8": [100.0, 100.0, 100.0]}
    sizes, share = goals([1.1, 1.3], found)
    assert (sizes.figure, sizes.met) == ("1.30", False)
    assert (share.figure, share.met) == ("0.80", True)


def test_it_runs_where_there_is_no_gpu(capsys, monkeypatch) -> None:
    command = "gpu --provider cpu --max-batch 2 --call 2 --images 8 --rounds 1"
    monkeypatch.setattr("sys.argv", command.split())
    assert main() in (0, 1)
    printed = capsys.readouterr().out
    for line in ("engine, full", "engine, medium", "ONNX Runtime, batch", "torch, batch"):
        assert line in printed
    assert "44 for each exit that is asked" in printed, "a confidence and 10 probabilities"
