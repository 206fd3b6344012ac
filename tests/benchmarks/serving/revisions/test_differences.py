"""Comparison of responses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.serving.revisions.differences import compare, differences, report
from benchmarks.serving.revisions.request import Response, classify
from offramp.load.outcomes import NO_ANSWER

REQUEST = classify("raw JPEG", b"...")
ANSWER = {
    "label": "cat",
    "index": 3,
    "probability": 0.5,
    "timings_ms": {"total": 1.5},
    "explain": [{"exit": 1, "confidence": 0.25}],
}
CLASSIFICATION = {"budget": "low", "answers": [ANSWER]}
PROBLEM = {"type": "/problems/not-an-image", "title": "Not an image", "status": 415, "detail": "a"}
METRICS = """# TYPE offramp_requests_total counter
offramp_requests_total{budget="low"} %s
offramp_request_seconds_sum %s
"""


def response(
    document: object, status: int = 200, content_type: str = "application/json"
) -> Response:
    body = document if isinstance(document, str) else json.dumps(document)
    return Response(status, {"content-type": content_type}, body.encode())


def classification(**changes: Any) -> Response:
    return response({**CLASSIFICATION, "answers": [{**ANSWER, **changes}]})


def test_responses_that_differ_in_timings_only_are_equal() -> None:
    other = classification(timings_ms={"total": 9.0})
    assert compare(REQUEST, classification(), other).equal


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"index": 4}, "body.answers.0.index: 3 became 4"),
        ({"label": "dog"}, "body.answers.0.label: 'cat' became 'dog'"),
        ({"probability": 0.5001}, "body.answers.0.probability: 0.5 became 0.5001"),
        ({"index": 3.0}, "body.answers.0.index: 3 became 3.0"),
        ({"degraded": False}, "body.answers.0.degraded: new"),
        ({"explain": []}, "body.answers.0.explain, entries: 1 became 0"),
        (
            {"explain": [{"exit": 2, "confidence": 0.25}]},
            "body.answers.0.explain.0.exit: 1 became 2",
        ),
    ],
)
def test_a_changed_field_is_a_difference(changes: dict[str, Any], expected: str) -> None:
    assert compare(REQUEST, classification(), classification(**changes)).differences == (expected,)


def test_numbers_can_differ_by_rounding() -> None:
    assert compare(REQUEST, classification(), classification(probability=0.500001)).equal


def test_a_missing_field_is_a_difference() -> None:
    assert list(differences({"a": 1, "b": 2}, {"a": 1})) == ["body.b: missing"]


def test_status_and_content_type_are_compared() -> None:
    old, new = response("x", 200, "text/plain"), response("x", 404, "text/html")
    assert compare(REQUEST, old, new).differences == (
        "status: 200 became 404",
        "content-type: 'text/plain' became 'text/html'",
    )


def test_a_lost_connection_is_a_difference() -> None:
    lost = Response(NO_ANSWER, {}, b"RemoteDisconnected")
    found = compare(REQUEST, classification(), lost)
    assert "status: 200 became 0" in found.differences


def test_a_detail_with_other_words_is_not_a_difference_but_is_listed() -> None:
    old = response(PROBLEM, 415, "application/problem+json")
    new = response({**PROBLEM, "detail": "b"}, 415, "application/problem+json")
    found = compare(REQUEST, old, new)
    assert found.equal
    assert found.reworded
    assert not compare(REQUEST, old, old).reworded
    assert list(report([found, found, compare(REQUEST, old, old)])) == [
        "3 requests, 3 equal responses, 0 not",
        "  status 415: 3",
        "2 of 3 problems have another `detail`",
        "  old: a",
        "  new: b",
    ]


def test_another_problem_type_is_a_difference() -> None:
    old = response(PROBLEM, 415, "application/problem+json")
    new = response({**PROBLEM, "type": "/problems/other"}, 415, "application/problem+json")
    found = compare(REQUEST, old, new)
    assert found.differences == ("body.type: '/problems/not-an-image' became '/problems/other'",)
    assert any("DIFFERENT  POST /classify (raw JPEG)" in line for line in report([found]))


def test_metrics_are_compared_by_name_and_deterministic_value() -> None:
    old, slower, more = (
        response(METRICS % numbers, 200, "text/plain") for numbers in ((3, 0.5), (3, 0.7), (4, 0.5))
    )
    assert compare(REQUEST, old, slower).equal
    assert compare(REQUEST, old, more).differences == (
        "body.offramp_requests_total{budget=\"low\"}: '3' became '4'",
    )


def test_descriptions_of_the_api_can_change_but_parameters_cannot() -> None:
    def document(parameter: str, text: str) -> Response:
        parameters = [{"name": parameter, "description": text}]
        operation = {"summary": text, "parameters": parameters, "responses": {"200": {}}}
        return response({"openapi": "3.1.0", "paths": {"/classify": {"post": operation}}})

    old = document("budget", "a")
    assert compare(REQUEST, old, document("budget", "b")).equal
    assert compare(REQUEST, old, document("cost", "a")).differences == (
        "body.POST /classify.parameters.0: 'budget' became 'cost'",
    )
