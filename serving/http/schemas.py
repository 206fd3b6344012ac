"""What comes in and what goes out, as records; and the functions that fill the latter.

The records are the API's description (OpenAPI). Answers are filled in as plain dictionaries,
without a second validation: a test holds them to the records.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from offramp.bundle.manifest import Estimate, HeldOut, ImageInput, Manifest, OperatingPoint, Record
from serving.engine.policy import default_budget
from serving.engine.request import Answer, Opinion
from serving.runtime.base import MOST_CLASSES

DIGITS = 6  # decimals of a probability
FEW = 64  # classes, which are sorted sooner without NumPy


class ClassifyQuery(BaseModel):
    """The query of /classify."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: str | None = Field(
        None,
        description="what the answer may cost: a budget's name (GET /model lists them), mean flops "
        "(multiply-adds) as in `120M`, `1.2G`, `400k` or a plain number, or a share of full depth "
        "as in `40%`; without it (and without min_confidence) `medium`, or the last named budget",
    )
    min_confidence: float | None = Field(
        None, description="instead of a budget: leave at the first exit this sure, from 0 to 1"
    )
    deadline_ms: float | None = Field(
        None,
        description="milliseconds from arrival, above 0: the deepest exit reached by then answers; "
        "goes with any of the others",
    )
    top_k: int = Field(5, ge=1, le=MOST_CLASSES, description="classes to list")
    explain: bool = Field(default=False, description="add what each exit on the way thought")


class ClassifyImages(BaseModel):
    """The JSON body of /classify."""

    model_config = ConfigDict(frozen=True, extra="forbid", val_json_bytes="base64")

    images: tuple[bytes, ...] = Field(
        min_length=1, description="image files (JPEG, PNG, WebP), each as base64"
    )


class RankedClass(Record):
    """One class of the top k."""

    label: str
    index: int
    probability: float


class ExitOpinion(Record):
    """What an exit on the way thought."""

    exit: int = Field(description="from 1")
    label: str
    index: int
    confidence: float
    threshold: float = Field(description="confidence from which on the request leaves here")


class Timings(Record):
    """Milliseconds."""

    decode: float = Field(description="decoding the images of the call")
    queue: float = Field(description="waiting for a batch")
    compute: float = Field(description="in batches")
    total: float = Field(description="from the arrival of the call")


class ImageAnswer(Record):
    """The answer for one image."""

    label: str
    index: int = Field(description="of the class, from 0")
    probability: float
    confidence: float = Field(description="of the exit; what thresholds are compared with")
    top_k: tuple[RankedClass, ...]
    exit: int = Field(description="the exit it left at, from 1")
    exits: int
    flops: int = Field(description="multiply-adds run for it: to that exit, with the heads asked")
    flops_share: float = Field(description="of the flops of full depth")
    deadline_hit: bool = Field(description="answered at the deadline, before the budget was used")
    degraded: bool = Field(description="answered early because the server is overloaded")
    timings_ms: Timings
    explain: tuple[ExitOpinion, ...] | None = Field(None, description="only with explain=true")


class ModelName(Record):
    """Which model answered."""

    name: str
    version: str


class Classification(Record):
    """The answers of a call, one for each image, in their order."""

    model: ModelName
    budget: str = Field(description="the budget used, as it was asked for")
    answers: tuple[ImageAnswer, ...]


class ExitDescription(Record):
    """One exit."""

    exit: int = Field(description="from 1")
    flops: int = Field(description="multiply-adds to leave here")
    accuracy: Estimate
    temperature: float


class ModelDescription(Record):
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


class Health(Record):
    """Alive, or ready."""

    status: str


class Problem(Record):
    """What went wrong (RFC 9457); `type` is stable, `detail` says what to do."""

    type: str
    title: str
    status: int
    detail: str


def describe(manifest: Manifest) -> ModelDescription:
    """The public part of a manifest."""
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
    )


class ImageAnswers:
    """Fills in answers of a manifest's model."""

    def __init__(self, manifest: Manifest) -> None:
        self._labels = manifest.labels
        self._exits = manifest.exits
        self._full_flops = manifest.full_flops

    def of(self, answer: Answer, query: ClassifyQuery, decode: float) -> dict[str, Any]:
        """An `ImageAnswer` as JSON data; `decode` in seconds."""
        outcome = answer.opinion
        top_k = _top_k(outcome, self._labels, query.top_k)
        body = {
            **top_k[0],
            "confidence": round(outcome.confidence, DIGITS),
            "top_k": top_k,
            "exit": answer.exit,
            "exits": self._exits,
            "flops": answer.flops,
            "flops_share": round(answer.flops / self._full_flops, DIGITS),
            "deadline_hit": answer.deadline_hit,
            "degraded": answer.degraded,
            "timings_ms": {
                "decode": _milliseconds(decode),
                "queue": _milliseconds(answer.queue),
                "compute": _milliseconds(answer.compute),
                "total": _milliseconds(answer.total),
            },
        }
        return body | {"explain": _opinions(answer, self._labels)} if query.explain else body


def _top_k(outcome: Opinion, labels: tuple[str, ...], k: int) -> list[dict[str, Any]]:
    if len(labels) <= FEW:
        values = outcome.probabilities.tolist()
        ranked = sorted(enumerate(values), key=itemgetter(1), reverse=True)[:k]
    else:
        order = np.argsort(-outcome.probabilities, kind="stable")[:k]
        ranked = [*zip(order.tolist(), outcome.probabilities[order].tolist(), strict=True)]
    return [
        {"label": labels[index], "index": index, "probability": round(probability, DIGITS)}
        for index, probability in ranked
    ]


def _opinions(answer: Answer, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    opinions = []
    for stage, outcome in enumerate(answer.opinions):
        if outcome is None:  # never: who wants explanations asks every exit
            continue
        index = int(outcome.probabilities.argmax())
        opinions.append(
            {
                "exit": stage + 1,
                "label": labels[index],
                "index": index,
                "confidence": round(outcome.confidence, DIGITS),
                "threshold": answer.policy.thresholds[stage],
            }
        )
    return opinions


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)
