"""Answers of a classifier: equal to those that a client reads from the server's JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from offramp.answers import answer_from
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.in_process.answer_builder import AnswerBuilder, rounded
from serving.engine.opinion import Opinion
from serving.engine.policy import resolve
from serving.engine.request import Answer
from serving.http.formatter import DECIMALS, AnswerFormatter
from serving.http.query import ClassifyQuery


@pytest.fixture(scope="module")
def manifest(bundle: Path) -> Manifest:
    return read_manifest(bundle)


def answer_of(manifest: Manifest, probabilities: np.ndarray, *, explain: bool = False) -> Answer:
    opinions = [Opinion(float(row.max()), row) for row in probabilities]
    policy = resolve(manifest, "medium", explain=explain)
    return Answer(policy, tuple(opinions), False, True, 0.0125, 0.001, 0.25, 430_000)


@pytest.mark.parametrize(
    "query",
    [
        ClassifyQuery(),
        ClassifyQuery(top_k=1),
        ClassifyQuery(top_k=100),
        ClassifyQuery(explain=True),
    ],
)
@pytest.mark.parametrize("classes", [10, 100])
def test_built_answer_equals_the_one_read_from_json(
    manifest: Manifest, query: ClassifyQuery, classes: int
) -> None:
    labels = tuple(f"class {index}" for index in range(classes))
    manifest = manifest.model_copy(update={"labels": labels})
    rng = np.random.default_rng(classes)
    for exits in (1, 2, 3):
        rows = rng.dirichlet(np.ones(classes), exits).astype(np.float32)
        rows[:, 4] = rows[:, 7]  # of equal classes the first comes first
        answer = answer_of(manifest, rows, explain=query.explain)
        built = AnswerBuilder(manifest).build(answer, query, 0.002)
        assert built == answer_from(AnswerFormatter(manifest).format(answer, query, 0.002))


def test_timings_are_milliseconds(manifest: Manifest) -> None:
    answer = answer_of(manifest, np.full((1, 10), 0.1, np.float32))
    built = AnswerBuilder(manifest).build(answer._replace(queue=0.0), ClassifyQuery(), 0.0031234)
    timings = built.timings_ms
    assert (timings.decode, timings.queue, timings.compute, timings.total) == (3.123, 0, 1, 250)


def test_rounded_equals_round_for_float32() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate(
        [rng.random(100_000), rng.random(100_000) ** 8, 1 - rng.random(50_000) ** 8]
    )
    ties = np.arange(1, 2**8, 2) / 2**7  # halves of the last decimal are multiples of 2**-7
    values = np.concatenate([drawn, ties, [0.0, 1.0, 1.0000001]]).astype(np.float32).tolist()
    assert [rounded(value) for value in values] == [round(value, DECIMALS) for value in values]
