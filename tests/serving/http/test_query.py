import pytest

from serving.engine.policy import resolve
from serving.errors import (
    BudgetTooLowError,
    ParameterError,
    UnknownBudgetError,
    UnknownParameterError,
)
from serving.http.query import KEPT, LONGEST, Queries
from serving.http.schemas import ClassifyQuery


@pytest.fixture
def queries(manifest):
    return Queries(manifest)


def test_a_query_as_its_record_and_its_policy(manifest, queries) -> None:
    asked = queries.read(b"budget=40%25&top_k=3&explain=true&deadline_ms=20")
    query = ClassifyQuery(budget="40%", top_k=3, explain=True, deadline_ms=20)
    assert asked.query == query
    assert asked.policy == resolve(manifest, "40%", deadline_ms=20, explain=True)
    assert queries.read(b"").query == ClassifyQuery()


def test_the_same_query_is_read_once(queries) -> None:
    assert queries.read(b"budget=low") is queries.read(b"budget=low")
    assert queries.read(b"budget=low") is not queries.read(b"budget=low&")


def test_what_is_remembered_is_bounded(queries) -> None:
    first = queries.read(b"deadline_ms=1")
    for milliseconds in range(2, KEPT + 2):
        queries.read(b"deadline_ms=%d" % milliseconds)
    assert queries.read(b"deadline_ms=1") is not first
    long = b"top_k=" + b"0" * LONGEST + b"3"
    assert queries.read(long) is not queries.read(long)
    assert queries.read(long).query.top_k == 3


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (b"top_k=many", ParameterError, "^top_k: Input should be a valid integer"),
        (b"budget=", UnknownBudgetError, "is not one of low"),
        (b"explain=true&explain=true", ParameterError, "^explain: given more than once"),
        (b"\xff=1", UnknownParameterError, "there are budget, min_confidence, deadline_ms"),
        (b"budget=1", BudgetTooLowError, "ask for at least"),
    ],
)
def test_what_will_not_do_is_said_each_time(queries, raw, error, says) -> None:
    for _ in range(2):
        with pytest.raises(error, match=says):
            queries.read(raw)
