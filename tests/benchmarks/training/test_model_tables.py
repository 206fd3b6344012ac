import dataclasses

import pytest

from benchmarks.training.model_tables import MODELS, Model, computed, differences, main


def test_every_published_figure_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    compared = sum(row.count("=") for row in rows if row and row[0].isdigit())
    known = [x for model in MODELS for column in model.known.values() for x in column if x]
    assert compared == len(known) > 60


@pytest.mark.parametrize("known", ["56.426083", "56.44"])
def test_a_figure_that_is_not_met_is_named(known: str) -> None:
    model: Model = MODELS[0]
    others = model.known["papers'"][1:]
    wrong = dataclasses.replace(model, known={"papers'": (known, *others)})
    (told,) = differences(wrong, computed(wrong))
    assert told == f"exit 1, papers': 56.426084 M, known is {known} M"
