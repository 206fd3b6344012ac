"""Read the answers in HTTP responses."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np

from benchmarks.serving.generator.outcomes import BUDGET, DEADLINE, DEGRADED, OK

_JSON = json.JSONDecoder()


def _document(body: bytes) -> dict[str, Any]:
    """Parse the JSON of an answer. Triton's own document can come before the model's.

    Raises:
        ValueError: The body is not one answer.
    """
    text = body.decode().strip()
    document, end = _JSON.raw_decode(text)
    if end < len(text) and "outputs" in document:
        document = json.loads(text[end:])
    elif end < len(text):
        raise ValueError(f"an answer has more than one document: {text[:200]}")
    return cast("dict[str, Any]", document)


def read_answer(status: int, body: bytes) -> tuple[float, ...]:
    """Return class, exit, flops, probability and `ended_by` of a response."""
    if status != OK:
        return -1, -1, -1, np.nan, BUDGET
    answer = _document(body)["answers"][0]
    ended_by = DEGRADED if answer.get("degraded") else BUDGET
    ended_by = DEADLINE if answer.get("deadline_hit") else ended_by
    exit_, flops = answer.get("exit", -1), answer.get("flops", -1)
    return answer["index"], exit_, flops, answer["probability"], ended_by
