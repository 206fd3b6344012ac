"""The query of `/classify`. Equal query strings are parsed once."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import PATTERN
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.policy import Policy, resolve, resolve_again
from serving.errors import ParameterError, UnknownModelError, UnknownParameterError
from serving.runtime.base import MOST_CLASSES

VERSION = "version"
CACHED_QUERIES = 1024
MAX_PARAMETERS = 32
MAX_CACHED_BYTES = 256  # of one query; longer ones are parsed each time
IN_MILLISECONDS = re.compile(rb"(?:^|&)budget=[0-9.]+ms(?:&|$)")  # the usual way to write it


class ClassifyQuery(BaseModel):
    """The query of /classify."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: str | None = Field(
        None,
        json_schema_extra={
            "pattern": r"^([a-z][a-z0-9_-]*|[0-9]{1,15}(\.[0-9]{1,15})?([kKmMgG%]|ms)?)$",
            "maxLength": 64,
        },
        description="cost of the answer: a budget's name (GET /model lists them), mean flops "
        "(multiply-adds) as in `120M`, `1.2G`, `400k` or a plain number, a percentage of full "
        "depth as in `40%`, or mean milliseconds of compute on this server as in `8ms`, without "
        "waiting (`milliseconds` of GET /model). Default, without min_confidence: `medium`, or the "
        "last named budget",
    )
    min_confidence: float | None = Field(
        None,
        json_schema_extra={"minimum": 0, "maximum": 1},
        description="instead of a budget: leave at the first exit with at least this confidence, "
        "from 0 to 1",
    )
    deadline_ms: float | None = Field(
        None,
        json_schema_extra={"exclusiveMinimum": 0},
        description="milliseconds from arrival, above 0. The deepest exit reached by then gives "
        "the answer. Can be combined with all other parameters",
    )
    promise: str | None = Field(
        None,
        json_schema_extra={"pattern": PATTERN, "maxLength": 20},
        description="certified promise about the answers (GET /model lists them, `promises`): "
        "`99%` agree with full depth, `exit:98%` do at each exit, at most `harm:1%` are wrong "
        "where full depth is right, or accuracy falls by at most `accuracy:1%`. The cheapest "
        "operating point that holds it answers. A budget then bounds its mean flops",
    )
    top_k: int = Field(5, ge=1, le=MOST_CLASSES, description="number of classes to list")
    explain: bool = Field(default=False, description="add the result of each exit on the way")
    reject: bool = Field(
        default=False,
        description="add `reject`: whether the picture shows no class of the model. Only of a "
        "model for which GET /model has `reject`",
    )

    version: str | None = Field(
        None,
        json_schema_extra={"minLength": 1, "maxLength": 64},
        description="version of the model that answers. Default: the one that was loaded last",
    )

    @field_validator("min_confidence", "deadline_ms", "top_k", mode="before")
    @classmethod
    def _numbers_have_no_underscores(cls, value: object) -> object:
        if isinstance(value, str) and "_" in value:
            raise PydanticCustomError("number", "Input should be a number, without underscores")
        return value

    @field_validator(VERSION)
    @classmethod
    def _version_is_named(cls, value: str | None) -> str | None:
        if value == "":
            raise PydanticCustomError(VERSION, "empty; name a version, or leave it out")
        return value


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query, with the policy that it resolves to."""

    policy: Policy
    query: ClassifyQuery


class _TimedError(Exception):
    """A query has a budget in milliseconds. `version` is that of the times to resolve it by."""

    def __init__(self, version: int) -> None:
        self.version = version


class QueryReader:
    """Parses queries, resolves their policy for a manifest, and caches the result.

    Args:
        manifest: Manifest of the bundle.
        milliseconds: Operating points by the times of this machine. `None`: not measured.
    """

    def __init__(self, manifest: Manifest, milliseconds: Milliseconds | None = None) -> None:
        self._manifest = manifest
        self._milliseconds = milliseconds
        self._cached = lru_cache(CACHED_QUERIES)(self._parse_untimed)
        self._timed = lru_cache(CACHED_QUERIES)(self._parse_timed)

    def read(self, raw: bytes) -> ParsedQuery:
        """Parse a raw query string.

        Raises:
            ParameterError: A parameter has a wrong value, excludes another, is given twice, or is
                `reject` and the bundle rejects nothing.
            UnknownParameterError: There is no such parameter.
            UnknownBudgetError: The budget is neither a name nor a number.
            UnknownPromiseError: No certified promise of the bundle holds the one asked for.
            BudgetTooLowError: No operating point is as cheap as the budget.
            UnknownModelError: The query names another version.
        """
        try:
            return self._cached(raw) if len(raw) <= MAX_CACHED_BYTES else self._parse(raw)
        except _TimedError as error:
            return self._timed(raw, error.version)

    def at_every_exit(
        self, parsed: ParsedQuery, *, explain: bool = False, deadline: float | None = None
    ) -> ParsedQuery:
        """Return a query whose policy evaluates every exit, to explain it or with a deadline.

        Evaluating takes time, so a budget in milliseconds stands for a cheaper point then, and
        beside a promise it can be too low.

        Raises:
            BudgetTooLowError: No operating point is as cheap as the budget.
        """
        policy = parsed.policy
        explain, deadline = explain or policy.explain, deadline or policy.deadline
        policy = replace(policy, explain=explain, deadline=deadline)
        if policy.timed is not None or policy.bound is not None:
            again = resolve_again(policy, self._manifest, self._milliseconds)
            policy = replace(again, explain=explain, deadline=deadline)
        return replace(parsed, policy=policy)

    def _parse_untimed(self, raw: bytes) -> ParsedQuery:
        """Parse a query without a budget in milliseconds. An exception is not cached.

        Raises:
            _TimedError: It has one, so that its policy changes with time.
        """
        if self._milliseconds is None:
            return self._parse(raw)
        parsed = None if IN_MILLISECONDS.search(raw) else self._parse(raw)
        if parsed is None or parsed.policy.timed is not None:
            raise _TimedError(self._milliseconds.version())
        return parsed

    def _parse(self, raw: bytes) -> ParsedQuery:
        query, served = validated(parameters_of(raw)), self._manifest.version
        if query.version is not None and query.version != served:
            asked = query.version[:64]
            remedy = "leave it out, or name one that GET /models lists"
            text = f"version: this is {served!r}, not {asked!r}; {remedy}"
            raise UnknownModelError(text)
        return with_policy(self._manifest, query, self._milliseconds)

    def _parse_timed(self, raw: bytes, _: int) -> ParsedQuery:
        """Parse a query by times of this version."""
        return self._parse(raw)


def version_of(raw: bytes) -> str:
    """Return the version that a raw query names first, or an empty string.

    The reader of that version checks the whole query.
    """
    if b"version" not in raw:
        return ""
    try:
        return next((value for name, value in _pairs(raw) if name == VERSION), "")
    except ValueError:
        return ""


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    """Return names and values of a raw query string.

    Raises:
        ValueError: There are more than MAX_PARAMETERS.
    """
    text = raw.decode("latin-1")
    return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)


def with_policy(
    manifest: Manifest, query: ClassifyQuery, milliseconds: Milliseconds | None = None
) -> ParsedQuery:
    """Return a query with its policy.

    Raises:
        InvalidRequestError: As `resolve` raises.
    """
    policy = resolve(
        manifest,
        query.budget,
        query.min_confidence,
        query.deadline_ms,
        explain=query.explain,
        reject=query.reject,
        promise=query.promise,
        milliseconds=milliseconds,
    )
    return ParsedQuery(policy, query)


def parameters_of(raw: bytes) -> dict[str, str]:
    """Return the parameters of a raw query string, in one pass.

    Raises:
        ParameterError: There are too many of them, or one is given twice.
    """
    try:
        pairs = _pairs(raw)
    except ValueError as error:
        raise ParameterError(f"the query has more than {MAX_PARAMETERS} parameters") from error
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if name in parameters:
            raise ParameterError(f"{name[:64]}: given more than once; give it once")
        parameters[name] = value
    return parameters


def validated(parameters: dict[str, str]) -> ClassifyQuery:
    """Return the query with these parameters.

    Raises:
        ParameterError, UnknownParameterError: As `QueryReader.read` raises.
    """
    try:
        return ClassifyQuery.model_validate(parameters)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][-1])
        if first["type"] == "extra_forbidden":
            known = ", ".join(ClassifyQuery.model_fields)
            raise UnknownParameterError(
                f"there is no query parameter {name[:64]!r}; there are {known}"
            ) from error
        raise ParameterError(f"{name}: {first['msg']}") from error
