"""Answers as tensors: a row for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer
from serving.http.formatter import opinions_of, top_k
from serving.http.oip.protocol import (
    BYTES,
    CONFIDENCE,
    EXIT,
    EXPLAIN,
    FLOPS,
    FURTHER,
    INDEX,
    LABEL,
    OUTPUTS,
    PROBABILITIES,
    PROBABILITY,
    REJECT,
    InferRequest,
    Wanted,
    element_length,
)

DATATYPES = {**OUTPUTS, **FURTHER}


class OutputTensor(NamedTuple):
    """An output.

    Attributes:
        name: Name of the output.
        datatype: Its datatype.
        shape: Its shape.
        values: Its values in C order. Of BYTES a flat list.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[np.generic] | list[bytes]

    def raw(self) -> bytes:
        """Return the values as bytes, little-endian. Each element of BYTES has its length first."""
        if isinstance(self.values, np.ndarray):
            return self.values.tobytes()
        return b"".join(part for each in self.values for part in (_length(each), each))


def _length(element: bytes) -> bytes:
    return element_length.pack(len(element))


class OutputBuilder:
    """Builds the tensors of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        self._encoded = [label.encode() for label in manifest.labels]
        self._columns: dict[str, Callable[[Sequence[Answer], list[int]], NDArray[Any]]] = {
            INDEX: lambda _, tops: np.array(tops, "<i8"),
            PROBABILITY: lambda answers, tops: np.array(
                [each.opinion.probabilities[k] for each, k in zip(answers, tops, strict=True)],
                "<f4",
            ),
            CONFIDENCE: lambda answers, _: np.array([a.opinion.confidence for a in answers], "<f4"),
            EXIT: lambda answers, _: np.array([each.exit for each in answers], "<i8"),
            FLOPS: lambda answers, _: np.array([each.flops for each in answers], "<i8"),
            REJECT: lambda answers, _: np.array([each.rejected for each in answers], np.bool_),
            PROBABILITIES: lambda answers, _: np.array(
                [each.opinion.probabilities for each in answers], "<f4"
            ),
        }

    def build(self, request: InferRequest, answers: Sequence[Answer]) -> list[OutputTensor]:
        """Return the requested outputs of the answers, in the order of the request."""
        tops = [int(each.opinion.probabilities.argmax()) for each in answers]
        return [self._tensor(wanted, answers, tops) for wanted in request.outputs]

    def _tensor(self, wanted: Wanted, answers: Sequence[Answer], tops: list[int]) -> OutputTensor:
        name, count = wanted.name, len(answers)
        if wanted.classes:
            classes = min(wanted.classes, len(self._labels))
            rows = [text for each in answers for text in self._ranked(each, classes)]
            return OutputTensor(name, BYTES, (count, classes), rows)
        if name == LABEL:
            return OutputTensor(name, BYTES, (count,), [self._encoded[k] for k in tops])
        if name == EXPLAIN:
            rows = [orjson.dumps(opinions_of(each, self._labels)) for each in answers]
            return OutputTensor(name, BYTES, (count,), rows)
        values = self._columns[name](answers, tops)
        return OutputTensor(name, DATATYPES[name], values.shape, values)

    def _ranked(self, answer: Answer, classes: int) -> list[bytes]:
        """Return texts `probability:index:label`, the likeliest class first."""
        ranked = top_k(answer.opinion.probabilities, self._labels, classes)
        return [f"{r['probability']:.6f}:{r['index']}:{r['label']}".encode() for r in ranked]


def parameters_of(request: InferRequest, answers: Sequence[Answer]) -> dict[str, str | bool]:
    """Return the parameters of a response: the budget, its meaning, if the promise was kept."""
    policy = request.parsed.policy
    found: dict[str, str | bool] = {"budget": policy.asked}
    if policy.timed is not None:
        found["mean_ms"] = f"{policy.timed.milliseconds:.4g}"
    if policy.promise is not None:
        found["promise_kept"] = all(each.by_policy for each in answers)
    return found
