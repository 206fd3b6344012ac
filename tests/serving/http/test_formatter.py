from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.opinion import Opinion
from serving.engine.policy import resolve
from serving.engine.request import Answer
from serving.http.formatter import FEW_CLASSES, AnswerFormatter, top_k
from serving.http.query import ClassifyQuery
from serving.http.schemas import ImageAnswer, KeptPromise


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
    answer = answer._replace(policy=resolve(manifest, "low", explain=True))
    body = AnswerFormatter(manifest).format(answer, ClassifyQuery(explain=True), 0)
    parsed = ImageAnswer.model_validate_json(json.dumps(body))
    assert parsed.explain is not None
    assert [(e.exit, e.label, e.confidence) for e in parsed.explain] == [
        (1, "class3", 0.55),
        (2, "class7", 0.45),
    ]
    assert [e.threshold for e in parsed.explain] == list(answer.policy.thresholds[:2])


@pytest.mark.parametrize(
    ("deadline_hit", "degraded", "kept"),
    [(False, False, True), (True, False, False), (False, True, False)],
)
def test_a_promise_is_kept_unless_the_request_ended_early(
    promise_bundle: Path,
    answer: Answer,
    deadline_hit: bool,
    degraded: bool,
    kept: bool,
) -> None:
    promising = read_manifest(promise_bundle)
    policy = resolve(promising, promise="98%")
    answer = answer._replace(policy=policy, deadline_hit=deadline_hit, degraded=degraded)
    query = ClassifyQuery(promise="98%")
    body = AnswerFormatter(promising).format(answer, query, 0)
    expected = {"kind": "agreement", "epsilon": 0.01, "delta": 0.05, "kept": kept}
    assert body["promise"] == expected
    assert ImageAnswer.model_validate_json(json.dumps(body)).promise == KeptPromise(**expected)


def test_an_answer_without_a_promise_has_no_such_field(
    promise_bundle: Path, answer: Answer
) -> None:
    promising = read_manifest(promise_bundle)
    answer = answer._replace(policy=resolve(promising, "low"))
    assert "promise" not in AnswerFormatter(promising).format(answer, ClassifyQuery(), 0)


def test_top_k_lists_at_most_all_classes(manifest: Manifest, answer: Answer) -> None:
    listed = AnswerFormatter(manifest).format(answer, ClassifyQuery(top_k=100), 0)["top_k"]
    assert [ranked["index"] for ranked in listed] == [7, 2, 0, 1, 3, 4, 5, 6, 8, 9]


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
