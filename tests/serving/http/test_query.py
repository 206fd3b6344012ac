from __future__ import annotations

import pytest
from pydantic import ValidationError

from offramp.bundle.manifest import Manifest
from serving.engine.policy import resolve
from serving.errors import (
    BudgetTooLowError,
    ParameterError,
    ServingError,
    UnknownBudgetError,
    UnknownModelError,
    UnknownParameterError,
)
from serving.http.query import (
    CACHED_QUERIES,
    MAX_CACHED_BYTES,
    MAX_PARAMETERS,
    ClassifyQuery,
    QueryReader,
)
from tests.timing import least_cpu_seconds


@pytest.fixture
def query_reader(manifest: Manifest) -> QueryReader:
    return QueryReader(manifest)


def test_a_query_gives_its_record_and_its_policy(
    manifest: Manifest, query_reader: QueryReader
) -> None:
    parsed = query_reader.read(b"budget=40%25&top_k=3&explain=true&deadline_ms=20")
    query = ClassifyQuery(budget="40%", top_k=3, explain=True, deadline_ms=20)
    assert parsed.query == query
    assert parsed.policy == resolve(manifest, "40%", deadline_ms=20, explain=True)
    assert query_reader.read(b"").query == ClassifyQuery()


def test_equal_queries_are_parsed_once(query_reader: QueryReader) -> None:
    assert query_reader.read(b"budget=low") is query_reader.read(b"budget=low")
    assert query_reader.read(b"budget=low") is not query_reader.read(b"budget=low&")


def test_the_cache_is_bounded(query_reader: QueryReader) -> None:
    first = query_reader.read(b"deadline_ms=1")
    for milliseconds in range(2, CACHED_QUERIES + 2):
        query_reader.read(b"deadline_ms=%d" % milliseconds)
    assert query_reader.read(b"deadline_ms=1") is not first
    long = b"top_k=" + b"0" * MAX_CACHED_BYTES + b"3"
    assert query_reader.read(long) is not query_reader.read(long)
    assert query_reader.read(long).query.top_k == 3


@pytest.mark.parametrize(
    ("raw", "error", "says"),
    [
        (b"top_k=many", ParameterError, "^top_k: Input should be a valid integer"),
        (b"top_k=3_0", ParameterError, "^top_k: Input should be a number, without underscores"),
        (b"min_confidence=0_1", ParameterError, "^min_confidence: Input should be a number, with"),
        (b"deadline_ms=1_0.5", ParameterError, "^deadline_ms: Input should be a number, without"),
        (b"budget=", UnknownBudgetError, "is not one of low"),
        (b"explain=true&explain=true", ParameterError, "^explain: given more than once"),
        (b"&".join(b"a%d" % k for k in range(MAX_PARAMETERS + 1)), ParameterError, "more than 32"),
        (b"&".join(b"a%d" % k for k in range(MAX_PARAMETERS)), UnknownParameterError, "'a0'"),
        (b"budget=" + b"9" * 8000, UnknownBudgetError, "is not one of low"),
        (b"budget=" + b"9" * 8000 + b"%25", UnknownBudgetError, "is not one of low"),
        (b"top_k=" + b"9" * 8000, ParameterError, "^top_k"),
        (b"deadline_ms=" + b"9" * 8000, ParameterError, "^deadline_ms"),
        (b"\xff=1", UnknownParameterError, "there are budget, min_confidence, deadline_ms"),
        (b"budget=1", BudgetTooLowError, "ask for at least"),
        (b"version=2", UnknownModelError, "^version: this is '1', not '2'; leave it out"),
    ],
)
def test_a_wrong_query_is_refused_each_time(
    query_reader: QueryReader, raw: bytes, error: type[ServingError], says: str
) -> None:
    for _ in range(2):
        with pytest.raises(error, match=says):
            query_reader.read(raw)


@pytest.mark.parametrize("unit", [b"a%d&", b"budget&", b"&", b"%%ff=%%ff&", b"a=%d;"])
def test_a_query_of_a_megabyte_is_refused_in_little_time(
    query_reader: QueryReader, unit: bytes
) -> None:
    parts = (unit % k if b"d" in unit and b"%d" in unit else unit for k in range(1 << 20))
    raw = b"".join(parts)[: 1 << 20]

    def refuse() -> None:
        with pytest.raises(ServingError) as raised:
            query_reader.read(raw)
        assert len(str(raised.value)) < 500

    assert least_cpu_seconds(refuse, 0.5) < 0.5


@pytest.mark.parametrize("query", [{"top_k": 0}, {"top_k": 101}, {"budgets": "low"}])
def test_a_query_with_a_wrong_field_is_refused(query: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClassifyQuery.model_validate(query)
