"""The records that a classifier and a client answer with: fields as in the JSON of the HTTP API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from offramp.bundle.manifest import ImageInput
from offramp.bundle.promises import Level


@dataclass(frozen=True, slots=True)
class RankedClass:
    """A class of the top k."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True, slots=True)
class ExitOpinion:
    """The prediction of one exit on the way.

    Attributes:
        exit: Number of the exit, from 1.
        label: Label of its likeliest class.
        index: Index of that class, from 0.
        confidence: Confidence of the exit, in [0, 1].
        threshold: Confidence from which on the image leaves at this exit.
    """

    exit: int
    label: str
    index: int
    confidence: float
    threshold: float


@dataclass(frozen=True, slots=True)
class KeptPromise:
    """The promise that an answer was asked to keep, as it is certified.

    Attributes:
        kind: `agreement`: the answer is that of full depth. `exit`: the same, among the answers of
            each exit. `harm`: it is not wrong where full depth is right. `accuracy`: the same, less
            the opposite.
        epsilon: Largest share of answers for which that is not so.
        delta: Probability that `epsilon` is larger after all.
        kept: False if a deadline or overload ended the request early, so that nothing is promised.
        broken: Audits of the server found that it does not hold on the images of today.
        answered_by: Safer point that answers instead, another promise or `full`.
    """

    kind: str
    epsilon: float
    delta: float
    kept: bool
    broken: bool = False
    answered_by: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerInTime:
    """The meaning of a budget in milliseconds: means of an answer at its operating point.

    Attributes:
        mean_ms: Compute time by the times that the machine measured: of batches, divided by their
            images, without waiting.
        mean_flops: Multiply-adds, as the manifest states them.
    """

    mean_ms: float
    mean_flops: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Times in milliseconds.

    Attributes:
        decode: Decoding of the images that were decoded together.
        queue: Time in queues.
        compute: Time in batches.
        total: From the arrival of the image to its answer.
    """

    decode: float
    queue: float
    compute: float
    total: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer for one image.

    Attributes:
        label: Label of the likeliest class.
        index: Index of that class, from 0.
        probability: Its probability.
        confidence: Confidence of the exit taken, which is compared with thresholds.
        top_k: The k likeliest classes, the likeliest first.
        exit: Number of the exit taken, from 1.
        exits: Number of exits of the model.
        flops: Multiply-adds run for this image.
        flops_share: The same as a share of the flops of the whole network.
        deadline_hit: The deadline ended it before its budget was used.
        degraded: Overload ended it before its budget was used.
        timings_ms: Times in milliseconds.
        explain: The prediction of each exit on the way. `None` unless it was requested.
        reject: True if the picture shows no class of the model. `None` unless it was requested.
        promise: The promise of its operating point. `None` unless one was requested.
        operating_point: The meaning of a budget in milliseconds. `None` with another budget.
    """

    label: str
    index: int
    probability: float
    confidence: float
    top_k: tuple[RankedClass, ...]
    exit: int
    exits: int
    flops: int
    flops_share: float
    deadline_hit: bool
    degraded: bool
    timings_ms: Timings
    explain: tuple[ExitOpinion, ...] | None = None
    reject: bool | None = None
    promise: KeptPromise | None = None
    operating_point: AnswerInTime | None = None


def answer_from(body: Mapping[str, Any]) -> Answer:
    """Build an answer from an element of `answers` in the JSON of `POST /classify`.

    Fields that this version does not know are ignored.

    Raises:
        KeyError: A field is missing.
    """
    explain = body.get("explain")
    timings = body["timings_ms"]
    return Answer(
        body["label"],
        body["index"],
        body["probability"],
        body["confidence"],
        tuple([RankedClass(c["label"], c["index"], c["probability"]) for c in body["top_k"]]),
        body["exit"],
        body["exits"],
        body["flops"],
        body["flops_share"],
        body["deadline_hit"],
        body["degraded"],
        Timings(timings["decode"], timings["queue"], timings["compute"], timings["total"]),
        None if explain is None else tuple(map(_opinion, explain)),
        body.get("reject"),
        _promise(body.get("promise")),
        _operating_point(body.get("operating_point")),
    )


def _promise(body: Mapping[str, Any] | None) -> KeptPromise | None:
    if body is None:
        return None
    return KeptPromise(
        body["kind"],
        body["epsilon"],
        body["delta"],
        body["kept"],
        body.get("broken", False),
        body.get("answered_by"),
    )


def _operating_point(body: Mapping[str, Any] | None) -> AnswerInTime | None:
    return None if body is None else AnswerInTime(body["mean_ms"], body["mean_flops"])


def _opinion(body: Mapping[str, Any]) -> ExitOpinion:
    return ExitOpinion(
        body["exit"], body["label"], body["index"], body["confidence"], body["threshold"]
    )


@dataclass(frozen=True, slots=True)
class Model:
    """The model of a server.

    Attributes:
        name: Its name.
        version: Its version.
        labels: Labels of its classes, by index.
        input: Size of its input, and how an image is brought to it.
        exits: Number of exits.
        full_flops: Multiply-adds of the whole network.
        default_budget: Budget of a request that names no budget.
        budgets: Names of the budgets.
        promises: Promises that can be asked for, as in `promise=99%`.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    input: ImageInput
    exits: int
    full_flops: int
    default_budget: str
    budgets: tuple[str, ...]
    promises: tuple[str, ...] = ()


def model_from(body: Mapping[str, Any]) -> Model:
    """Build a model from the JSON of `GET /model`.

    Fields that this version does not know are ignored.

    Raises:
        KeyError: A field is missing.
        ValueError: The input is described in a way that this version does not know.
    """
    return Model(
        body["name"],
        body["version"],
        tuple(body["labels"]),
        ImageInput.model_validate(body["input"]),
        len(body["exits"]),
        body["full_flops"],
        body["default_budget"],
        tuple(body["budgets"]),
        tuple(
            str(Level(each["kind"], each["epsilon"]))
            for each in (body.get("promises") or {}).get("offered", ())
        ),
    )
