"""The command of the steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import main, print_check, run_all
from benchmarks.gpu.steps import Step


def test_steps_run_until_the_time_is_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = (Step(n, ("-c", f"raise SystemExit({s})"), 60, ()) for n, s in (("a", 0), ("b", 2)))
    found = run_all([good, bad], tmp_path / "out", 60)
    assert [one.status for one in found] == [0, 2]
    assert len((tmp_path / "out" / "steps.csv").read_text().splitlines()) == 3
    assert run_all([good], tmp_path / "out", 0) == []
    printed = capsys.readouterr().out.splitlines()
    assert printed[1].startswith("b            exit status 2, ")
    assert printed[2] == "a            not started: no time is left"


def test_the_check_lists_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(tmp_path / "gone"), "--out", str(tmp_path / "out"), "--check"]
    assert main([*given, "comparison"]) == 1
    assert capsys.readouterr().out == f"comparison   {tmp_path / 'gone'} missing\n"
    assert main(["--data", str(tmp_path), *given[2:], "comparison"]) == 0
    assert not (tmp_path / "out").exists()
    assert print_check([Step("a", (), 1, ())]) == 0


def test_an_unknown_step_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["lunch", "--data", "d", "--out", "o"])
    assert "lunch: not one of comparison, tests, engine, recipe" in capsys.readouterr().err
