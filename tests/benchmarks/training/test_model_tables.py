import dataclasses

import pytest

from benchmarks.training.model_tables import MODELS, Model, computed, differences, main


def test_all_figures_equal_the_references(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    compared = sum(row.count("=") for row in rows if row and row[0].isdigit())
    known = [x for model in MODELS for column in model.known.values() for x in column if x]
    assert compared == len(known) > 60


@pytest.mark.parametrize("known", ["56.426083", "56.44"])
def test_a_different_figure_is_described(known: str) -> None:
    model: Model = MODELS[0]
    others = model.known["papers'"][1:]
    wrong = dataclasses.replace(model, known={"papers'": (known, *others)})
    (text,) = differences(wrong, computed(wrong))
    assert text == f"exit 1, papers': 56.426084 M, reference is {known} M"
