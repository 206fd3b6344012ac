"""Names, datatypes and records of the protocol, and the requested outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.errors import MalformedBodyError
from serving.http.query import ClassifyQuery, ParsedQuery
from serving.runtime.base import MOST_CLASSES

IMAGE = "image"  # name of the only input
BYTES, UINT8, BOOL, INT64, FP32 = "BYTES", "UINT8", "BOOL", "INT64", "FP32"
LABEL, INDEX, PROBABILITY, CONFIDENCE = "label", "index", "probability", "confidence"
EXIT, FLOPS, PROBABILITIES = "exit", "flops", "probabilities"
REJECT, EXPLAIN = "reject", "explain"
# The outputs of every request without a list of outputs, with their datatypes.
OUTPUTS: Mapping[str, str] = {
    LABEL: BYTES,
    INDEX: INT64,
    PROBABILITY: FP32,
    CONFIDENCE: FP32,
    EXIT: INT64,
    FLOPS: INT64,
    PROBABILITIES: FP32,
}
# The outputs of requests with the parameter of the same name.
FURTHER: Mapping[str, str] = {REJECT: BOOL, EXPLAIN: BYTES}
BINARY_DATA, CLASSIFICATION = "binary_data", "classification"  # parameters of an output
MAX_ID = 1024  # characters of a request's id
SHOWN = 64  # characters of a client's name in an error text
element_length = Struct("<I")  # before each element of a tensor BYTES

Images = list[bytes] | NDArray[np.uint8]  # files, or pixels [n, height, width, 3]


class Wanted(NamedTuple):
    """A requested output.

    Attributes:
        name: Name of the output.
        binary: Send it after the JSON.
        classes: Number of classes to send as texts instead of the tensor. 0: the tensor.
    """

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True, slots=True)
class InferRequest:
    """A request for inference.

    Attributes:
        id: Text that the response repeats, or empty.
        images: Image files, or pixels.
        parsed: Policy and query.
        outputs: Requested outputs, at least one.
    """

    id: str
    images: Images
    parsed: ParsedQuery
    outputs: tuple[Wanted, ...]


def malformed(text: str) -> MalformedBodyError:
    """Return the error of a request that is not of the protocol."""
    return MalformedBodyError(text)


def shown(value: object) -> str:
    """Return a client's value as JSON has it, for an error text: its start, or its type."""
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    return ascii(value[:SHOWN] if isinstance(value, str) else type(value).__name__)


def read_outputs(
    named: Sequence[tuple[object, Mapping[str, object]]], query: ClassifyQuery, *, binary: bool
) -> tuple[Wanted, ...]:
    """Return the requested outputs, or all that the request gives if it names no output.

    Args:
        named: Name and parameters of each.
        query: Query of the request.
        binary: Default of `binary_data`.

    Raises:
        MalformedBodyError: There is no such output, it is named twice, or has a wrong parameter.
    """
    further = [name for name in FURTHER if getattr(query, name)]
    classes = query.top_k if "top_k" in query.model_fields_set else 0
    given = [*OUTPUTS, *further]
    if not named:
        return tuple(
            Wanted(name, binary, classes if name == PROBABILITIES else 0) for name in given
        )
    names = [name for name, _ in named]
    for number, name in enumerate(names):
        if name not in given:
            hint = f"; it needs the parameter {name}=true" if name in [*FURTHER] else ""
            raise malformed(f"there is no output {shown(name)} in {', '.join(given)}{hint}")
        if name in names[:number]:
            raise malformed(f"the output {shown(name)} is requested twice")
    return tuple(
        _wanted(str(name), parameters, classes, binary=binary) for name, parameters in named
    )


def _wanted(name: str, parameters: Mapping[str, object], classes: int, *, binary: bool) -> Wanted:
    wants_binary = parameters.get(BINARY_DATA, binary)
    number = parameters.get(CLASSIFICATION, classes if name == PROBABILITIES else 0)
    for parameter in parameters:
        if parameter not in (BINARY_DATA, CLASSIFICATION):
            raise malformed(f"{name}: there is no parameter {shown(parameter)} of an output")
    if not isinstance(wants_binary, bool):
        raise malformed(f"{name}: {BINARY_DATA} is true or false")
    if type(number) is not int or not 0 <= number <= MOST_CLASSES:
        raise malformed(f"{name}: {CLASSIFICATION} is an integer from 0 to {MOST_CLASSES}")
    if number and name != PROBABILITIES:
        raise malformed(f"{name}: {CLASSIFICATION} is a parameter of {PROBABILITIES} only")
    return Wanted(name, wants_binary, number)
