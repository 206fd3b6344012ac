"""The records of responses, and the functions that fill them.

The records describe the API (OpenAPI). Answers are built as plain dictionaries, without validation
at run time. A test compares them with the records.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from offramp.bundle.manifest import (
    HeldOut,
    ImageInput,
    Manifest,
    OperatingPoint,
    PretrainedWeights,
)
from offramp.bundle.reject import Reject
from offramp.bundle.values import Estimate, FrozenRecord
from serving.engine.policy import default_budget
from serving.engine.request import Answer
from serving.http.query import ClassifyQuery

DECIMALS = 6  # of a probability
FEW_CLASSES = 64  # so many are sorted faster without NumPy


class RankedClass(FrozenRecord):
    """A class of the top k."""

    label: str
    index: int
    probability: float


class ExitOpinion(FrozenRecord):
    """The result of an exit on the way."""

    exit: int = Field(description="number of the exit, from 1")
    label: str
    index: int
    confidence: float
    threshold: float = Field(description="least confidence to leave at this exit")


class Timings(FrozenRecord):
    """Times in milliseconds."""

    decode: float = Field(description="decoding of the images of the call")
    queue: float = Field(description="waiting for batches")
    compute: float = Field(description="running in batches")
    total: float = Field(description="from the arrival of the call to the answer")


class ImageAnswer(FrozenRecord):
    """The answer for one image."""

    label: str
    index: int = Field(description="number of the class, from 0")
    probability: float
    confidence: float = Field(description="of the exit, compared with its threshold")
    top_k: tuple[RankedClass, ...]
    exit: int = Field(description="the exit that gave the answer, from 1")
    exits: int = Field(description="number of exits")
    flops: int = Field(description="multiply-adds run: to this exit, with the heads evaluated")
    flops_share: float = Field(description="flops divided by the flops of full depth")
    deadline_hit: bool = Field(
        description="answered because of its deadline, earlier than its budget"
    )
    degraded: bool = Field(description="answered early because the server is overloaded")
    timings_ms: Timings
    explain: tuple[ExitOpinion, ...] | None = Field(None, description="only with explain=true")
    reject: bool | None = Field(
        None, description="the picture shows no class of the model. Only with reject=true"
    )


class ModelName(FrozenRecord):
    """The model that gave an answer."""

    name: str
    version: str


class Classification(FrozenRecord):
    """The answers of a call, one for each image, in the same order."""

    model: ModelName
    budget: str = Field(description="the budget used, as in the query")
    answers: tuple[ImageAnswer, ...]


class ExitDescription(FrozenRecord):
    """An exit."""

    exit: int = Field(description="number of the exit, from 1")
    flops: int = Field(description="multiply-adds of an answer at this exit")
    accuracy: Estimate
    temperature: float


class ModelDescription(FrozenRecord):
    """The public part of the manifest."""

    name: str
    version: str
    created: str
    labels: tuple[str, ...]
    input: ImageInput
    precision: str
    confidence: str
    full_flops: int
    exits: tuple[ExitDescription, ...]
    default_budget: str
    budgets: dict[str, OperatingPoint]
    curve: tuple[OperatingPoint, ...]
    held_out: HeldOut
    weights: PretrainedWeights | None = None
    reject: Reject | None = Field(
        None,
        exclude_if=lambda record: record is None,
        description="the score by which answers are rejected, if the model can do that",
    )


class Health(FrozenRecord):
    """The state of the process: alive, or ready."""

    status: str


class Problem(FrozenRecord):
    """An error (RFC 9457). `type` is stable, `detail` says how to correct the error."""

    type: str
    title: str
    status: int
    detail: str


def describe(manifest: Manifest) -> ModelDescription:
    """Return the public part of a manifest."""
    exits = tuple(
        ExitDescription(
            exit=number,
            flops=stage.flops_to_exit,
            accuracy=stage.accuracy,
            temperature=stage.temperature,
        )
        for number, stage in enumerate(manifest.stages, 1)
    )
    return ModelDescription(
        name=manifest.name,
        version=manifest.version,
        created=manifest.created.isoformat(),
        labels=manifest.labels,
        input=manifest.input,
        precision=manifest.precision,
        confidence=manifest.confidence,
        full_flops=manifest.full_flops,
        exits=exits,
        default_budget=default_budget(manifest),
        budgets=manifest.budgets,
        curve=manifest.curve,
        held_out=manifest.held_out,
        weights=manifest.provenance.weights,
        reject=manifest.reject,
    )


class AnswerFormatter:
    """Formats the answers of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        self._exits = manifest.exits
        self._full_flops = manifest.full_flops

    def format(self, answer: Answer, query: ClassifyQuery, decode: float) -> dict[str, Any]:
        """Return an `ImageAnswer` as JSON data. `decode` is the decoding time in seconds."""
        outcome = answer.opinion
        ranked = top_k(outcome.probabilities, self._labels, query.top_k)
        body: dict[str, Any] = {
            **ranked[0],
            "confidence": round(outcome.confidence, DECIMALS),
            "top_k": ranked,
            "exit": answer.exit,
            "exits": self._exits,
            "flops": answer.flops,
            "flops_share": round(answer.flops / self._full_flops, DECIMALS),
            "deadline_hit": answer.deadline_hit,
            "degraded": answer.degraded,
            "timings_ms": {
                "decode": round(decode * 1e3, 3),
                "queue": round(answer.queue * 1e3, 3),
                "compute": round(answer.compute * 1e3, 3),
                "total": round(answer.total * 1e3, 3),
            },
        }
        if query.reject:
            body["reject"] = answer.rejected
        return body | {"explain": _opinions(answer, self._labels)} if query.explain else body


def top_k(
    probabilities: NDArray[np.float32], labels: tuple[str, ...], k: int
) -> list[dict[str, Any]]:
    """Return the k most probable classes as `RankedClass` data, in order.

    Of classes with equal probability the first comes first.
    """
    if len(labels) <= FEW_CLASSES:
        values = probabilities.tolist()
        ranked = sorted(enumerate(values), key=itemgetter(1), reverse=True)[:k]
    else:
        order = np.argsort(-probabilities, kind="stable")[:k]
        ranked = [*zip(order.tolist(), probabilities[order].tolist(), strict=True)]
    return [
        {"label": labels[index], "index": index, "probability": round(probability, DECIMALS)}
        for index, probability in ranked
    ]


def _opinions(answer: Answer, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    opinions = []
    for stage, outcome in enumerate(answer.opinions):
        if outcome is None:  # never: with `explain` every exit on the way is evaluated
            continue
        index = int(outcome.probabilities.argmax())
        opinions.append(
            {
                "exit": stage + 1,
                "label": labels[index],
                "index": index,
                "confidence": round(outcome.confidence, DECIMALS),
                "threshold": answer.policy.thresholds[stage],
            }
        )
    return opinions
