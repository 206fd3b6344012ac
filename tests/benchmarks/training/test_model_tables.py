"""The table of model costs. `test_main` prints the table itself, and checks it."""

import dataclasses

import pytest

from benchmarks.training.model_tables import MODELS, Model, computed, differences


@pytest.mark.parametrize("known", ["56.426083", "56.44"])
def test_a_different_figure_is_described(known: str) -> None:
    model: Model = MODELS[0]
    others = model.known["papers'"][1:]
    wrong = dataclasses.replace(model, known={"papers'": (known, *others)})
    (text,) = differences(wrong, computed(wrong))
    assert text == f"exit 1, papers': 56.426084 M, reference is {known} M"
