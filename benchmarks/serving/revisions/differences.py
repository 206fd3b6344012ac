"""Compare two responses to the same request, without what varies from run to run. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.revisions.request import Request, Response

TOLERANCE = 1e-5  # of numbers: a batch of another size rounds differently
COMPARED = ("content-type", "allow", "retry-after", "www-authenticate", "connection")
VARYING = ("timings_ms",)  # fields of a JSON object
MAX_TEXT = 100  # characters of a value in the report
COUNTED = re.compile(r"offramp_(requests|exits|problems|flops_\w+)_total\b")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two responses to one request.

    Attributes:
        request: The request.
        differences: One line for each difference.
        details: The `detail` texts of both problems, where there are two.
        status: HTTP status of the old response.
    """

    request: Request
    differences: tuple[str, ...]
    details: tuple[str, str] | None
    status: int

    @property
    def equal(self) -> bool:
        """True if the responses are equal, but for the text of `detail`."""
        return not self.differences

    @property
    def reworded(self) -> bool:
        """True if both are problems with different `detail` texts."""
        return self.details is not None and self.details[0] != self.details[1]


def compare(request: Request, old: Response, new: Response) -> Comparison:
    """Compare status, header fields and body of two responses."""
    found = [*_different("status", old.status, new.status)]
    for name in COMPARED:
        found += _different(name, old.headers.get(name), new.headers.get(name))
    before, after = comparable(old), comparable(new)
    details = None
    if _is_problem(before) and _is_problem(after):
        details = str(before.pop("detail", "")), str(after.pop("detail", ""))
    found += differences(before, after)
    return Comparison(request, tuple(found), details, old.status)


def comparable(response: Response) -> Any:  # noqa: ANN401  any JSON value
    """Return the body as a value, without what varies.

    JSON is parsed and loses `VARYING`. An OpenAPI document is reduced to its `interface`.
    Metrics become their samples, with the values of the deterministic counters.
    """
    content_type = response.headers.get("content-type", "")
    text = response.body.decode("latin-1")
    if "json" in content_type and response.body:
        document = json.loads(response.body)
        is_api = isinstance(document, dict) and "openapi" in document
        return interface(document) if is_api else without_varying(document)
    return samples(text) if "# TYPE offramp_" in text else text


def without_varying(value: Any) -> Any:  # noqa: ANN401  any JSON value
    """Return a JSON value without the `VARYING` fields, at any depth."""
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if name not in VARYING}
        return {name: without_varying(inner) for name, inner in kept.items()}
    return [without_varying(inner) for inner in value] if isinstance(value, list) else value


def interface(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a client relies on in an OpenAPI document.

    For each path and method: its parameters, content types of its body, and statuses.
    """
    return {
        f"{method.upper()} {path}": {
            "parameters": sorted(each["name"] for each in operation.get("parameters", [])),
            "body": sorted(operation.get("requestBody", {}).get("content", {})),
            "responses": sorted(operation["responses"]),
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def samples(text: str) -> dict[str, str]:
    """Return the values of `COUNTED` metrics by name and labels. Other values are empty."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("offramp_"))
    return {name: value if COUNTED.match(name) else "" for name, _, value in lines}


def differences(old: Any, new: Any, where: str = "body") -> Iterator[str]:  # noqa: ANN401
    """Compare two JSON values and describe each difference in a line.

    Numbers can differ by `TOLERANCE`, unless both are whole numbers.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if name not in new or name not in old:
                yield f"{where}.{name}: {'new' if name in new else 'missing'}"
            else:
                yield from differences(old[name], new[name], f"{where}.{name}")
    elif isinstance(old, list) and isinstance(new, list):
        yield from _different(f"{where}, entries", len(old), len(new))
        for i, pair in enumerate(zip(old, new, strict=False)):
            yield from differences(*pair, f"{where}.{i}")
    elif not (isinstance(old, float) and isinstance(new, float) and abs(old - new) <= TOLERANCE):
        yield from _different(where, old, new)


def _different(where: str, old: object, new: object) -> Iterator[str]:
    if old != new or type(old) is not type(new):
        yield f"{where}: {_short(old)} became {_short(new)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def _is_problem(value: object) -> bool:
    return isinstance(value, dict) and str(value.get("type", "")).startswith("/problems/")


def report(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Describe comparisons in lines: numbers by status, differences, and other wordings."""
    statuses = [each.status for each in comparisons]
    equal = sum(each.equal for each in comparisons)
    yield f"{len(comparisons)} requests, {equal} equal responses, {len(comparisons) - equal} not"
    for status in sorted(set(statuses)):
        yield f"  status {status}: {statuses.count(status)}"
    for each in comparisons:
        yield from (f"DIFFERENT  {each.request}: {line}" for line in each.differences)
    problems = sum(each.details is not None for each in comparisons)
    reworded = [each for each in comparisons if each.reworded]
    yield f"{len(reworded)} of {problems} problems have another `detail`"
    for old, new in dict.fromkeys(each.details for each in reworded if each.details):
        yield f"  old: {old}"
        yield f"  new: {new}"
