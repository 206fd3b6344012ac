"""The query of a call, read once for all calls that ask the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from pydantic import ValidationError
from starlette.datastructures import QueryParams

from offramp.bundle.manifest import Manifest
from serving.engine.policy import Policy, resolve
from serving.errors import ParameterError, UnknownParameterError
from serving.http.schemas import ClassifyQuery

CACHED_QUERIES = 1024  # queries, each of at most so many bytes
MAX_CACHED_BYTES = 256


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """What a query asks for."""

    policy: Policy
    query: ClassifyQuery


class QueryReader:
    """Reads queries as a manifest resolves them, and remembers those that did lately."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._remembered = lru_cache(CACHED_QUERIES)(self._read)

    def read(self, raw: bytes) -> ParsedQuery:
        """What a raw query string asks for.

        Raises:
            ParameterError: a parameter has no such value, does not go with another, or comes twice.
            UnknownParameterError: there is no such parameter.
            UnknownBudgetError: the budget is neither a name nor a number.
            BudgetTooLowError: no operating point is that cheap.
        """
        return self._remembered(raw) if len(raw) <= MAX_CACHED_BYTES else self._read(raw)

    def _read(self, raw: bytes) -> ParsedQuery:
        query = _validated(QueryParams(raw))
        policy = resolve(
            self._manifest,
            query.budget,
            query.min_confidence,
            query.deadline_ms,
            explain=query.explain,
        )
        return ParsedQuery(policy, query)


def _validated(parameters: QueryParams) -> ClassifyQuery:
    names = [name for name, _ in parameters.multi_items()]
    for name in names:
        if names.count(name) > 1:
            raise ParameterError(f"{name[:64]}: given more than once; leave all but one out")
    try:
        return ClassifyQuery.model_validate(dict(parameters))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][-1])
        if first["type"] == "extra_forbidden":
            known = ", ".join(ClassifyQuery.model_fields)
            raise UnknownParameterError(
                f"there is no query parameter {name[:64]!r}; there are {known}"
            ) from error
        raise ParameterError(f"{name}: {first['msg']}") from error
