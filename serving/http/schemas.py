"""The records of responses, which describe the API (OpenAPI)."""

from __future__ import annotations

from pydantic import Field

from offramp.bundle.manifest import (
    HeldOut,
    ImageInput,
    Manifest,
    OperatingPoint,
    PretrainedWeights,
)
from offramp.bundle.promises import Kind, Promises
from offramp.bundle.reject import Reject
from offramp.bundle.values import Estimate, FrozenRecord
from serving.engine.budgets.description import ServerTimes, describe_times
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.budgets.points import default_budget


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


class ExitAnswer(FrozenRecord):
    """The answer of one exit for one image, as an event of a stream."""

    image: int = Field(description="number of the image in the call, from 0")
    exit: int = Field(description="number of the exit, from 1")
    label: str
    index: int = Field(description="number of the class, from 0")
    probability: float
    confidence: float = Field(description="of the exit, compared with the threshold")
    threshold: float = Field(description="least confidence to leave at this exit")
    top_k: tuple[RankedClass, ...]
    flops: int = Field(description="multiply-adds run so far, with the heads of all exits")
    flops_share: float = Field(description="flops divided by the flops of full depth")
    elapsed_ms: float = Field(description="milliseconds from the arrival of the call")


class Timings(FrozenRecord):
    """Times in milliseconds."""

    decode: float = Field(description="decoding of the images of the call")
    queue: float = Field(description="waiting for batches")
    compute: float = Field(description="running in batches")
    total: float = Field(description="from the arrival of the call to the answer")


class KeptPromise(FrozenRecord):
    """The promise that an answer was asked to keep, as it is certified."""

    kind: Kind = Field(
        description="`agreement`: the answer is that of full depth. `exit`: the same, among the "
        "answers of each exit. `harm`: it is not wrong where full depth is right. `accuracy`: the "
        "same, where wrong answers that full depth makes right count less those of the opposite"
    )
    epsilon: float = Field(description="largest share of answers for which that is not so")
    delta: float = Field(description="probability that `epsilon` is larger after all")
    kept: bool = Field(
        description="false: a deadline or overload ended the request early, so that nothing is "
        "promised about this answer"
    )
    broken: bool = Field(
        default=False,
        description="only if true: audits found that more answers differ than is promised, on the "
        "images of today",
    )
    answered_by: str | None = Field(
        None,
        description="only with `broken`: the safer point that answers instead, another promise or "
        "`full` (null: the point of the promise)",
    )


class AnswerInTime(FrozenRecord):
    """The meaning of a budget in milliseconds: means of an answer at its operating point."""

    mean_ms: float = Field(
        description="compute time by the times that this server measured: of its batches, divided "
        "by their images, without waiting"
    )
    mean_flops: int = Field(description="multiply-adds, as the manifest states them")


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
    promise: KeptPromise | None = Field(
        None, description="only with `promise`, or a budget that is the name of a promise"
    )
    operating_point: AnswerInTime | None = Field(
        None, description="only with a budget in milliseconds"
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
    head_flops: int = Field(
        description="part of them that only this exit needs. An answer at a later exit does not "
        "spend it if no confidence of this exit is needed"
    )
    network: int = Field(
        description="number of the network that has this exit, from 1. A cascade or a chain with a "
        "smaller image has several. One does not run if no confidence of its exits is needed"
    )
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
    weights: PretrainedWeights | None = Field(
        None, description="pretrained weights that training started from (null: random weights)"
    )
    reject: Reject | None = Field(
        None,
        exclude_if=lambda record: record is None,
        description="the score by which answers are rejected, if the model can do that",
    )
    promises: Promises | None = Field(
        None,
        exclude_if=lambda record: record is None,
        description="the certified promises of the model, if it has any",
    )
    milliseconds: ServerTimes = Field(description="as of now")


class Health(FrozenRecord):
    """The state of the process: alive, or ready."""

    status: str


class Problem(FrozenRecord):
    """An error (RFC 9457). `type` is stable, `detail` says how to correct the error."""

    type: str
    title: str
    status: int
    detail: str


def describe(manifest: Manifest, milliseconds: Milliseconds) -> ModelDescription:
    """Return the public part of a manifest, with the times of this machine."""
    return ModelDescription(
        name=manifest.name,
        version=manifest.version,
        created=manifest.created.isoformat(),
        labels=manifest.labels,
        input=manifest.input,
        precision=manifest.precision,
        confidence=manifest.confidence,
        full_flops=manifest.full_flops,
        exits=_exits(manifest),
        default_budget=default_budget(manifest),
        budgets=manifest.budgets,
        curve=manifest.curve,
        held_out=manifest.held_out,
        weights=manifest.provenance.weights,
        reject=manifest.reject,
        promises=manifest.promises,
        milliseconds=describe_times(manifest, milliseconds),
    )


def _exits(manifest: Manifest) -> tuple[ExitDescription, ...]:
    return tuple(
        ExitDescription(
            exit=number,
            flops=stage.flops_to_exit,
            head_flops=stage.head_flops,
            network=sum(first < number for first in manifest.firsts),
            accuracy=stage.accuracy,
            temperature=stage.temperature,
        )
        for number, stage in enumerate(manifest.stages, 1)
    )
