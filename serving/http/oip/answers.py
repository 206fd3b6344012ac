"""Answers as tensors: a row for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import pack
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.engine.request import Answer
from serving.http.formatter import opinions_of, top_k
from serving.http.oip.protocol import (
    BOOL,
    BYTES,
    CONFIDENCE,
    EXIT,
    EXPLAIN,
    FLOPS,
    FP32,
    FURTHER,
    INDEX,
    INT64,
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
FORMATS = {BOOL: "?", INT64: "q", FP32: "f"}  # of `struct`


class OutputHead(NamedTuple):
    """An output without its values.

    Attributes:
        name: Name of the output.
        datatype: Its datatype.
        shape: Its shape.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


class OutputTensor(NamedTuple):
    """An output.

    Attributes:
        head: Its name, datatype and shape.
        values: Its values in C order: a number or an element of BYTES each, of `probabilities` a
            float32 [classes] for each image.
    """

    head: OutputHead
    values: Sequence[Any]

    def raw(self) -> bytes:
        """Return the values as bytes, little-endian. Each element of BYTES has its length first."""
        if self.head.datatype == BYTES:
            return b"".join([part for each in self.values for part in (_length(each), each)])
        if self.head.name == PROBABILITIES:
            return b"".join([np.asarray(row, "<f4").tobytes() for row in self.values])
        return pack(f"<{len(self.values)}{FORMATS[self.head.datatype]}", *self.values)

    def json(self) -> list[Any] | NDArray[np.float32]:
        """Return the values as data of JSON, flat."""
        if self.head.datatype == BYTES:
            return [each.decode() for each in self.values]
        if self.head.datatype == FP32:  # the shortest text of a float32, not that of a float64
            return np.array(self.values, np.float32).reshape(-1)
        return [*self.values]


def _length(element: bytes) -> bytes:
    return element_length.pack(len(element))


class OutputBuilder:
    """Builds the tensors of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        encoded = [label.encode() for label in manifest.labels]
        # Values by output, of an answer and the number of its likeliest class.
        self._columns: dict[str, Callable[[Answer, int], Any]] = {
            LABEL: lambda _, top: encoded[top],
            INDEX: lambda _, top: top,
            PROBABILITY: lambda answer, top: answer.opinion.probabilities[top],
            CONFIDENCE: lambda answer, _: answer.opinion.confidence,
            EXIT: lambda answer, _: answer.exit,
            FLOPS: lambda answer, _: answer.flops,
            REJECT: lambda answer, _: answer.rejected,
            PROBABILITIES: lambda answer, _: answer.opinion.probabilities,
            EXPLAIN: lambda answer, _: orjson.dumps(opinions_of(answer, manifest.labels)),
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
            return OutputTensor(OutputHead(name, BYTES, (count, classes)), rows)
        column = self._columns[name]
        values = [column(answer, top) for answer, top in zip(answers, tops, strict=True)]
        shape = (count, len(self._labels)) if name == PROBABILITIES else (count,)
        return OutputTensor(OutputHead(name, DATATYPES[name], shape), values)

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
