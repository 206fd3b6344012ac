from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pydantic import BaseModel

from offramp.answers import Answer, AnswerInTime, ExitOpinion, RankedClass, Timings, answer_from
from serving.http import schemas

BODY: dict[str, Any] = {
    "label": "cat",
    "index": 3,
    "probability": 0.9,
    "confidence": 0.9,
    "top_k": [{"label": "cat", "index": 3, "probability": 0.9}],
    "exit": 1,
    "exits": 4,
    "flops": 100,
    "flops_share": 0.1,
    "deadline_hit": False,
    "degraded": False,
    "timings_ms": {"decode": 1.0, "queue": 2.0, "compute": 3.0, "total": 6.0},
}


@pytest.mark.parametrize(
    ("record", "schema"),
    [
        (Answer, schemas.ImageAnswer),
        (RankedClass, schemas.RankedClass),
        (ExitOpinion, schemas.ExitOpinion),
        (Timings, schemas.Timings),
        (AnswerInTime, schemas.AnswerInTime),
    ],
)
def test_records_have_the_fields_of_the_json(record: type, schema: type[BaseModel]) -> None:
    assert [field.name for field in fields(record)] == list(schema.model_fields)


def test_fields_of_a_newer_server_are_ignored() -> None:
    ranked = {**BODY["top_k"][0], "colour": "black"}
    answer = answer_from({**BODY, "top_k": [ranked], "mood": "good"})
    assert answer == answer_from(BODY)
    assert answer.top_k == (RankedClass("cat", 3, 0.9),)


def test_a_missing_field_is_an_error() -> None:
    with pytest.raises(KeyError, match="label"):
        answer_from({name: value for name, value in BODY.items() if name != "label"})


def test_records_are_frozen() -> None:
    with pytest.raises(AttributeError):
        setattr(answer_from(BODY), "label", "dog")  # noqa: B010 (mypy knows that it is frozen)
