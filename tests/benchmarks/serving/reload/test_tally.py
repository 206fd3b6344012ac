from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from benchmarks.serving.mixture import Query
from benchmarks.serving.reload.tally import (
    WRONG,
    Asked,
    grown,
    named,
    read_named,
    seen_by_clients,
    total,
)
from offramp.load.outcomes import NO_ANSWER, OK, Outcomes

BEFORE = {'offramp_requests_total{budget="low",model="cats",outcome="answered",version="1"}': 2.0}
AFTER = {
    'offramp_requests_total{budget="low",model="cats",outcome="answered",version="1"}': 5.0,
    'offramp_requests_total{budget="low",model="cats",outcome="answered",version="2"}': 1.0,
    'offramp_requests_total{budget="low",model="cats",outcome="refused",version="1"}': 2.0,
    'offramp_requests_total{budget="low",model="cats",outcome="refused",version="2"}': 1.0,
    'offramp_slots_in_use{model="cats",version="2"}': 3.0,
    "offramp_workers": 2.0,
}


def body_of(name: str, version: str, label: str) -> bytes:
    answer = {"index": 7, "exit": 2, "flops": 30, "probability": 0.5, "label": label}
    return json.dumps({"model": {"name": name, "version": version}, "answers": [answer]}).encode()


def outcomes_of(*rows: tuple[int, bytes, int]) -> Outcomes:
    """Return the outcomes of responses: status, body, and number of the path."""
    values = np.array([read_named(status, body) for status, body, _ in rows], np.float64).T
    nothing = np.zeros(len(rows))
    return Outcomes(
        path=np.array([path for *_, path in rows]),
        image=nothing.astype(np.int64),
        due=nothing,
        sent=nothing,
        done=nothing,
        status=np.array([status for status, *_ in rows]),
        index=values[0].astype(np.int64),
        exit=values[1].astype(np.int64),
        flops=values[2].astype(np.int64),
        probability=values[3],
        ended_by=values[4].astype(np.int64),
    )


def test_model_version_and_class_of_an_answer_are_read() -> None:
    found = named(
        outcomes_of(
            (OK, body_of("dogs", "31", "dogs@31:cat"), 0),
            (OK, body_of("cats", "1", "cats@2:cat"), 0),
            (429, b"", 0),
        )
    )
    assert found.model.tolist() == [1, -1, -1]
    assert found.version.tolist() == [31, -1, -1]
    assert found.outcomes.index.tolist() == [7, WRONG, -1]


def test_answers_count_for_the_version_that_they_name_and_others_for_the_model() -> None:
    asked = [Asked("cats", "", Query(budget="low")), Asked("dogs", "1", Query(budget="full"))]
    assert [each.path() for each in asked] == [
        "/models/cats/classify?budget=low",
        "/models/dogs/classify?budget=full&version=1",
    ]
    found = named(
        outcomes_of(
            (OK, body_of("cats", "2", "cats@2:x"), 0),
            (429, b"", 1),
            (404, b"", 1),
            (NO_ANSWER, b"", 0),
        )
    )
    assert seen_by_clients(found, asked, ["low", "full"]) == {
        ("cats", "2", "low", "answered"): 1,
        ("dogs", "", "full", "refused"): 1,
        ("dogs", "", "full", "404"): 1,
        ("cats", "", "low", "lost"): 1,
    }


def test_counts_of_the_metrics_are_those_since_the_scrape_before() -> None:
    assert grown(BEFORE, AFTER) == Counter(
        {
            ("cats", "1", "low", "answered"): 3,
            ("cats", "2", "low", "answered"): 1,
            ("cats", "", "low", "refused"): 3,
        }
    )


@pytest.mark.parametrize(
    ("labels", "value"), [({}, 9), ({"outcome": "refused"}, 3), ({"version": "3"}, 0)]
)
def test_samples_are_summed_over_the_other_labels(labels: dict[str, str], value: float) -> None:
    assert total(AFTER, "offramp_requests_total", **labels) == value
    assert total(AFTER, "offramp_slots_in_use") == 3
    assert total(AFTER, "offramp_workers") == 2
