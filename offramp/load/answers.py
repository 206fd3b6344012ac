"""Read the answers in HTTP responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from offramp.errors import TransportError
from offramp.load.outcomes import BUDGET, DEADLINE, DEGRADED, OK

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
    """Return class, exit, flops, probability and `ended_by` of a response.

    Raises:
        TransportError: The response is a success and no answer of Offramp.
    """
    if status != OK:
        return -1, -1, -1, np.nan, BUDGET
    try:
        return _values_of(_document(body)["answers"][0])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        text = f"the server answers 200 with what is no answer of Offramp: {body[:100]!r}"
        raise TransportError(text) from error


def _values_of(answer: Mapping[str, Any]) -> tuple[float, ...]:
    ended_by = DEGRADED if answer.get("degraded") else BUDGET
    ended_by = DEADLINE if answer.get("deadline_hit") else ended_by
    exit_, flops = answer.get("exit", -1), answer.get("flops", -1)
    return answer["index"], exit_, flops, answer["probability"], ended_by


def read_output(status: int, body: bytes) -> tuple[float, ...]:
    """Return the values of a response of the inference protocol, as `read_answer`.

    Those that its outputs do not state are -1 or NaN, also of outputs in binary form.
    """
    if status != OK:
        return -1, -1, -1, np.nan, BUDGET
    try:
        outputs = _JSON.raw_decode(body.decode("latin-1"))[0]["outputs"]
        values = {each["name"]: each["data"][0] for each in outputs if each.get("data")}
    except (KeyError, TypeError, ValueError):
        return -1, -1, -1, np.nan, BUDGET
    found = [values.get(name, -1) for name in ("index", "exit", "flops")]
    return *(each if isinstance(each, int) else -1 for each in found), np.nan, BUDGET
