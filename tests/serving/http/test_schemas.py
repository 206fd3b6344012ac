from __future__ import annotations

import json

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.policy import resolve
from serving.engine.request import Answer, Opinion
from serving.http.query import ClassifyQuery
from serving.http.schemas import (
    FEW_CLASSES,
    AnswerFormatter,
    ImageAnswer,
    ModelDescription,
    describe,
    top_k,
)


@pytest.fixture
def answer(manifest: Manifest) -> Answer:
    rows = np.full((2, 10), 0.05, np.float32)
    rows[0, 3], rows[1, 7], rows[1, 2] = 0.55, 0.45, 0.15
    opinions = tuple(Opinion(float(row.max()), row) for row in rows)
    return Answer(resolve(manifest, "low"), opinions, False, False, 0.002, 0.001, 0.0045, 250_000)


def test_an_answer_has_the_form_of_its_record(manifest: Manifest, answer: Answer) -> None:
    body = AnswerFormatter(manifest).format(answer, ClassifyQuery(top_k=2), 0.0005)
    parsed = ImageAnswer.model_validate_json(json.dumps(body))
    assert (parsed.label, parsed.index, parsed.probability) == ("class7", 7, 0.45)
    assert parsed.confidence == 0.45
    assert [(ranked.label, ranked.probability) for ranked in parsed.top_k] == [
        ("class7", 0.45),
        ("class2", 0.15),
    ]
    assert (parsed.exit, parsed.exits, parsed.flops) == (2, 4, 250_000)
    assert parsed.flops_share == round(250 / 640, 6)
    times = parsed.timings_ms
    assert (times.decode, times.queue, times.compute, times.total) == (0.5, 2.0, 1.0, 4.5)
    assert "explain" not in body


def test_explain_lists_the_result_of_each_exit(manifest: Manifest, answer: Answer) -> None:
    body = AnswerFormatter(manifest).format(answer, ClassifyQuery(explain=True), 0)
    parsed = ImageAnswer.model_validate_json(json.dumps(body))
    assert parsed.explain is not None
    assert [(e.exit, e.label, e.confidence) for e in parsed.explain] == [
        (1, "class3", 0.55),
        (2, "class7", 0.45),
    ]
    assert [e.threshold for e in parsed.explain] == list(answer.policy.thresholds[:2])


def test_top_k_lists_at_most_all_classes(manifest: Manifest, answer: Answer) -> None:
    listed = AnswerFormatter(manifest).format(answer, ClassifyQuery(top_k=100), 0)["top_k"]
    assert [ranked["index"] for ranked in listed] == [7, 2, 0, 1, 3, 4, 5, 6, 8, 9]


def test_the_description_is_the_public_part_of_the_manifest(manifest: Manifest) -> None:
    described = ModelDescription.model_validate_json(describe(manifest).model_dump_json())
    assert described.budgets == manifest.budgets
    assert described.curve == manifest.curve
    assert [exit_.flops for exit_ in described.exits] == [100_000, 250_000, 430_000, 700_000]
    assert described.default_budget == "medium"
    assert "provenance" not in described.model_dump()


@pytest.mark.parametrize("classes", [FEW_CLASSES, FEW_CLASSES + 1])
def test_of_equally_probable_classes_the_first_comes_first(classes: int) -> None:
    likely = np.full(classes, 0.25, np.float32)
    likely[[5, 9]] = 0.5
    ranked = top_k(likely, tuple(map(str, range(classes))), 4)
    assert [(each["label"], each["probability"]) for each in ranked] == [
        ("5", 0.5),
        ("9", 0.5),
        ("0", 0.25),
        ("1", 0.25),
    ]
