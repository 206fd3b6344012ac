import subprocess

import pytest

from benchmarks.goals import Goal, is_verdict, print_goals
from benchmarks.training import verdicts


def test_goals_are_told_from_other_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_goals([Goal("a", "1", met=True), Goal("b", "2", met=False)]) == 1
    assert print_goals([Goal("a", "1", met=True)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["met      a: 1", "NOT MET  b: 2", "met      a: 1"]
    assert all(is_verdict(line) for line in lines)
    assert not is_verdict("metrics add up")


def test_a_benchmarks_output_is_shown_and_its_goals_are_kept(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (verdict,) = verdicts(["benchmarks.model_tables"])
    assert verdict.startswith("met      parameters and flops are as published")
    printed = capsys.readouterr().out
    assert "MSDNet, CIFAR-100" in printed
    assert printed.splitlines()[-1] == verdict


def test_a_benchmark_that_fails_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        verdicts(["benchmarks.budgeted"])
