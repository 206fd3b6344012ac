import re

import numpy as np
import pytest

from benchmarks.training.training_step import JOINT, PAPER, RELEASED, Row, goals, main, surgeries
from training.surgery.boundary import Surgery


def row(surgery: Surgery, backward: float, *ratios: float) -> Row:
    return Row(surgery, backward, 1.0, np.array(ratios))


def test_surgeries_are_all_variants_at_all_betas() -> None:
    rows = surgeries([0.5, 0.25, 0.5])
    assert [(each.variant, each.beta) for each in rows] == [
        *[("released", 0.25), ("released", 0.5), ("paper", 0.25), ("paper", 0.5)],
        *[("unreferenced", 0.25), ("unreferenced", 0.5)],
    ]


def test_goals_are_those_of_the_rows_in_the_tables() -> None:
    met = {
        "msdnet": {
            JOINT: row(JOINT, 1.0, 1.5),
            RELEASED: row(RELEASED, 0.92632, 0.9, 1.02, 1.3),
            PAPER: row(PAPER, 0.89938, 0.5, 0.96, 1.0),
        }
    }
    assert [(goal.figure, goal.met) for goal in goals(met)] == [
        *[("7.4 %", True), ("10.1 %", True), ("0.960", True)],
        ("1.020 (msdnet, released 0.5)", True),
    ]
    missed = {"vgg-7": {PAPER: row(PAPER, 0.752, 0.88)}, "vit": {PAPER: row(PAPER, 1.0, 1.03)}}
    assert [(goal.figure, goal.met) for goal in goals(missed)] == [
        *[("24.8 %", False), ("0.880", False), ("1.030 (vit, paper 0.5)", False)],
    ]


def test_the_command_prints_a_table_and_the_goals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "training_step --networks vgg-7 --betas .5 --batch 1 --rounds 1"
    monkeypatch.setattr("sys.argv", command.split())
    assert main() in (0, 1)
    printed = capsys.readouterr().out
    assert re.search(r"^paper +0\.50 +0\.7515 +0\.8347 +\d\.\d{3} \[", printed, re.MULTILINE)
    assert re.search(r"^met +vgg-7, paper 0\.5: .*: 24\.9 %$", printed, re.MULTILINE)
    assert len(re.findall("^(?:met|NOT MET)", printed, re.MULTILINE)) == 3
