"""Answers as tensors: a row for each image.

Clients ask for the same outputs again and again. What does not depend on the answers is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from struct import Struct
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
LAYOUTS, WRITTEN = 64, 64  # that are kept, and of each the parts of responses
Values = Sequence[Any]


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


class Output(NamedTuple):
    """An output of a number of answers.

    Attributes:
        head: Its name, datatype and shape.
        value: Its value, of an answer and the number of its likeliest class.
        raw: Its values as bytes, little-endian. Each element of BYTES has its length first.
    """

    head: OutputHead
    value: Callable[[Answer, int], Any]
    raw: Callable[[Values], bytes]

    def json(self, values: Values) -> Sequence[Any] | NDArray[np.float32]:
        """Return its values as data of JSON, flat."""
        if self.head.datatype == BYTES:
            return [each.decode() for each in _elements(self.head, values)]
        if self.head.datatype == FP32:  # the shortest text of a float32, not that of a float64
            return np.array(values, np.float32).reshape(-1)
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The outputs of all requests for the same outputs of so many images.

    Attributes:
        outputs: The outputs, in the order of the request.
        written: Parts of responses without values, by what they depend on. Bounded.
    """

    outputs: tuple[Output, ...]
    written: dict[Hashable, bytes] = field(default_factory=dict)

    def values(self, answers: Sequence[Answer]) -> list[Values]:
        """Return the values of each output, one for each answer."""
        pairs = [(each, int(each.opinion.probabilities.argmax())) for each in answers]
        return [[output.value(*pair) for pair in pairs] for output in self.outputs]

    def raw(self, values: Sequence[Values]) -> list[bytes]:
        """Return the values of each output as bytes."""
        return [output.raw(each) for output, each in zip(self.outputs, values, strict=True)]

    def write(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return a part that depends on the key only. It is made once."""
        found = self.written.get(key)
        if found is None:
            if len(self.written) >= WRITTEN:
                self.written.clear()
            found = self.written[key] = make()
        return found


class OutputBuilder:
    """Builds the outputs of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        encoded = [label.encode() for label in manifest.labels]
        self._values: dict[str, Callable[[Answer, int], Any]] = {
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
        self.layout = lru_cache(LAYOUTS)(self._layout)

    def _layout(self, wanted: tuple[Wanted, ...], count: int) -> Layout:
        """Return the layout of requests for these outputs of `count` images."""
        return Layout(tuple(self._output(each, count) for each in wanted))

    def _output(self, wanted: Wanted, count: int) -> Output:
        name = wanted.name
        if wanted.classes:
            classes = min(wanted.classes, len(self._labels))
            head = OutputHead(name, BYTES, (count, classes))
            return Output(head, partial(self._ranked, classes), partial(_raw_elements, head))
        shape = (count, len(self._labels)) if name == PROBABILITIES else (count,)
        head = OutputHead(name, DATATYPES[name], shape)
        if head.datatype == BYTES:
            return Output(head, self._values[name], partial(_raw_elements, head))
        if name == PROBABILITIES:
            return Output(head, self._values[name], _raw_rows)
        pack = Struct(f"<{count}{FORMATS[head.datatype]}").pack
        return Output(head, self._values[name], lambda values: pack(*values))

    def _ranked(self, classes: int, answer: Answer, _: int) -> list[bytes]:
        """Return texts `probability:index:label`, the likeliest class first."""
        ranked = top_k(answer.opinion.probabilities, self._labels, classes)
        return [f"{r['probability']:.6f}:{r['index']}:{r['label']}".encode() for r in ranked]


def _elements(head: OutputHead, values: Values) -> Values:
    """Return the elements of an output BYTES, flat."""
    return values if len(head.shape) == 1 else [each for row in values for each in row]


def _raw_elements(head: OutputHead, values: Values) -> bytes:
    pairs = ((element_length.pack(len(e)), e) for e in _elements(head, values))
    return b"".join(part for pair in pairs for part in pair)


def _raw_rows(values: Values) -> bytes:
    return b"".join([np.asarray(row, "<f4").tobytes() for row in values])


def parameters_of(request: InferRequest, answers: Sequence[Answer]) -> dict[str, str | bool]:
    """Return the parameters of a response: the budget, its meaning, and the promise."""
    policy = request.parsed.policy
    found: dict[str, str | bool] = {"budget": policy.asked}
    if policy.timed is not None:
        found["mean_ms"] = f"{policy.timed.milliseconds:.4g}"
    promise = answers[0].policy.promise  # audits can have replaced the policy of the request
    if promise is not None:
        found |= {"promise": str(promise.level), "promise_delta": f"{promise.delta:g}"}
        found["promise_kept"] = all(each.by_policy for each in answers)
        if promise.broken:
            found["promise_broken"] = True
            if promise.answered_by is not None:
                found["promise_answered_by"] = promise.answered_by
    return found
