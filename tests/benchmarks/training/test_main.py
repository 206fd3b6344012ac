import argparse
import subprocess
from pathlib import Path

import pytest

from benchmarks.goals import Goal, is_verdict, print_goals, verdicts
from benchmarks.training.__main__ import commands
from benchmarks.training.model_tables import MODELS


def test_lines_of_goals_are_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_goals([Goal("a", "1", met=True), Goal("b", "2", met=False)]) == 1
    assert print_goals([Goal("a", "1", met=True)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["met      a: 1", "NOT MET  b: 2", "met      a: 1"]
    assert all(is_verdict(line) for line in lines)
    assert not is_verdict("metrics add up")


def test_all_benchmarks_of_training_are_run() -> None:
    arguments = argparse.Namespace(data="cifar10", runs=Path("r"), out=Path("o"))
    named = [command[0] for command in commands(arguments)]
    assert named == [
        f"benchmarks.training.{name}"
        for name in (
            *("model_tables", "training_step", "objective_costs"),
            *("objectives", "budgeted", "conflict"),
        )
    ]


def test_the_output_of_a_benchmark_is_printed_and_its_goals_are_returned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All figures of the table equal the references."""
    (verdict,) = verdicts(["benchmarks.training.model_tables"])
    assert verdict.startswith("met      parameters and flops equal the published figures")
    printed = capsys.readouterr().out
    assert "MSDNet, CIFAR-100" in printed
    assert printed.splitlines()[-1] == verdict
    rows = [line.split() for line in printed.splitlines()]
    compared = sum(row.count("=") for row in rows if row and row[0].isdigit())
    known = [x for model in MODELS for column in model.known.values() for x in column if x]
    assert compared == len(known) > 60


def test_a_failed_benchmark_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        verdicts(["benchmarks.training.no_such_benchmark"])


def test_a_benchmark_that_fails_after_goals_that_it_met_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "missing.py").write_text("print('NOT MET  a: 1'); raise SystemExit(1)")
    assert verdicts(["missing"]) == ["NOT MET  a: 1"]
    (tmp_path / "broken.py").write_text("print('met      a: 1', flush=True); 1 / 0")
    with pytest.raises(subprocess.CalledProcessError):
        verdicts(["broken"])
