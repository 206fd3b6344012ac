"""The bundle's contract: `manifest.json`, written by the exporter, read by the server.

A bundle is a folder with `manifest.json` and one ONNX file for each stage. The manifest has the
numbers, the graphs have the mathematics. Flops are multiply-adds for one image, the convention
of the MSDNet and DFS papers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from offramp.bundle.errors import BundleError
from offramp.bundle.files import read_regular_file
from offramp.bundle.promises import Promises, without_promises
from offramp.bundle.reject import Reject, check_exits
from offramp.bundle.values import (
    Estimate,
    Filter,
    FrozenRecord,
    MeasuredTimes,
    Name,
    Price,
    SolvedFor,
    Version,
)

MANIFEST = "manifest.json"
FORMAT: Literal[2] = 2
NEW_FORMAT: Literal[3] = 3  # the same, with any of these
NEW_FIELDS = ("solved_for", "times", "promises")
MAX_MANIFEST_BYTES = 4 << 20


def _is_none(value: object) -> bool:
    return value is None


def _is_flops(price: str) -> bool:
    return price == "flops"


def _is_whole(margin: float) -> bool:
    return margin == 1


class TensorSpec(FrozenRecord):
    """A tensor of a stage graph. `shape` is without the batch axis."""

    name: str = Field(min_length=1)
    dtype: Literal["uint8", "float32", "float16"]
    shape: tuple[Annotated[int, Field(gt=0)], ...]

    @property
    def nbytes(self) -> int:
        """Return the bytes of one request's tensor."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class StageSpec(FrozenRecord):
    """A stage: its graph, and the cost and accuracy of its exit.

    A stage reads the image, or features of any earlier stages. Each part of the network is in the
    first stage with an exit that needs it. Beside its features the graph has the outputs
    `probabilities` [N, classes], `confidence` [N] and, if `reject` needs it, `score` [N]. The head
    is the part that only this exit needs. A stage without features, as the last one, is all head.
    Stages that share no features are different networks of a cascade.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    inputs: tuple[TensorSpec, ...] = Field(min_length=1)
    features: tuple[TensorSpec, ...]
    flops: int = Field(gt=0, description="of this stage with its head")
    head_flops: int = Field(
        ge=0, description="of its head, which does not run if no request needs this exit"
    )
    flops_to_exit: int = Field(gt=0, description="of all stages up to here with their heads")
    blockwise_flops_to_exit: int = Field(
        gt=0,
        description="the papers' count, in which a stage is whole blocks; not the flops that run",
    )
    parameters: int = Field(ge=0)
    temperature: float = Field(gt=0)
    accuracy: Estimate


Specs = Sequence[Sequence[TensorSpec]]


def first_stages(inputs: Specs, features: Specs) -> tuple[int, ...]:
    """Return the first stage of each network, from 0: of a cascade several, otherwise one.

    No stage from there on reads a feature of a stage before.

    Args:
        inputs: Tensors that each stage reads.
        features: Tensors that each stage gives to later ones.
    """
    maker = {spec.name: k for k, specs in enumerate(features) for spec in specs}
    inside: set[int] = set()
    for k, specs in enumerate(inputs):
        for spec in specs:
            inside.update(range(maker.get(spec.name, k) + 1, k + 1))
    return tuple(k for k in range(len(inputs)) if k not in inside)


def stages_run(firsts: Sequence[int], evaluated: Sequence[bool]) -> tuple[bool, ...]:
    """Return for each stage whether it runs: its exit or a later one of its network is evaluated.

    Args:
        firsts: The result of `first_stages`.
        evaluated: For each exit, whether it is evaluated.
    """
    run: list[bool] = []
    for k in reversed(range(len(evaluated))):
        later = bool(run) and run[-1] and k + 1 not in firsts
        run.append(evaluated[k] or later)
    return tuple(reversed(run))


class OperatingPoint(FrozenRecord):
    """Thresholds, with their cost and accuracy on the held-out images.

    A request leaves at the first exit where the confidence is at least the threshold. The last
    threshold is 0. At a threshold above 1 no request leaves. Accuracy and agreement are
    cross-fitted.
    """

    thresholds: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)
    mean_flops: Estimate
    accuracy: Estimate
    exit_shares: tuple[Estimate, ...] = Field(min_length=1)
    agreement: Estimate | None = Field(
        None, description="share of answers that agree with full depth", exclude_if=_is_none
    )
    risk: float | None = Field(
        None,
        ge=0,
        le=1,
        description="place on the path, from full depth (0) to the first exit (1)",
        exclude_if=_is_none,
    )


class ImageInput(FrozenRecord):
    """The conversion of an image to the tensor `image`: uint8, [N, height, width, 3], RGB.

    `crop` scales the shorter side to fit and takes the centre. `stretch` changes the proportions.
    An image that has exactly this size is used as it is, without `margin`.
    """

    height: int = Field(gt=0, le=4096)
    width: int = Field(gt=0, le=4096)
    fit: Literal["crop", "stretch"]
    filter: Filter
    margin: float = Field(
        1.0,
        gt=0,
        le=1,
        description="central share of each side that is resized, after `fit`; the rest is cut off",
        exclude_if=_is_whole,  # versions without this field can read such a bundle
    )


def _are_given(labels: str) -> bool:
    return labels == "given"


class HeldOut(FrozenRecord):
    """The images from which temperatures, thresholds and every Estimate were computed."""

    images: int = Field(gt=0)
    source: str
    labels: Literal["given", "pseudo"] = Field(
        "given",
        description="pseudo: predictions of the last exit, so that every accuracy is agreement "
        "with it",
        exclude_if=_are_given,  # versions without this field can read such a bundle
    )


class PretrainingImages(FrozenRecord):
    """The images that published weights were trained on."""

    size: int = Field(gt=0, description="height and width in pixels")
    mean: tuple[float, float, float] = Field(
        description="subtracted from each channel, of pixels in [0, 1]"
    )
    std: tuple[float, float, float] = Field(description="divisor of each channel")
    filter: Filter = Field(description="filter that resized the images")
    margin: float = Field(gt=0, le=1, description="central share of the shorter side that was kept")


class PretrainedWeights(FrozenRecord):
    """The published weights that training started from."""

    source: str = Field(min_length=1, description="package with its version, or name of the file")
    licence: str = Field(min_length=1, description="as their source states it")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of their file or tensors")
    images: PretrainingImages | None = Field(
        None,
        description="the images that they were trained on, as their source states it",
        exclude_if=_is_none,  # bundles of earlier versions do not have it
    )


class Provenance(FrozenRecord):
    """The training run that gave the weights."""

    recipe: str
    dataset: str
    train_images: int = Field(ge=0, description="0: the networks were trained elsewhere")
    epochs: int = Field(ge=0)
    seed: int
    commit: str
    config: dict[str, object]
    weights: PretrainedWeights | None = Field(
        None, description="where training started from (null: random)", exclude_if=_is_none
    )


class Manifest(FrozenRecord):
    """The complete description of a bundle."""

    format: Literal[2, 3] = FORMAT
    name: Name
    version: Version
    created: datetime
    labels: tuple[str, ...] = Field(min_length=2)
    input: ImageInput
    precision: Literal["fp32", "fp16", "int8"]
    confidence: str
    stages: tuple[StageSpec, ...] = Field(min_length=1)
    budgets: dict[Name, OperatingPoint] = Field(min_length=1)
    curve: tuple[OperatingPoint, ...] = Field(min_length=1)
    solved_for: SolvedFor | None = Field(
        None,
        description="what the path of operating points loses least of: agreement with full depth, "
        "or accuracy (null: solved without a path)",
        exclude_if=_is_none,
    )
    times: MeasuredTimes | None = Field(
        None, description="compute times where the bundle was made", exclude_if=_is_none
    )
    priced_in: Price = Field(
        "flops",
        description="what going on costs on the path: flops, or the milliseconds in `times`",
        exclude_if=_is_flops,
    )
    held_out: HeldOut
    provenance: Provenance
    reject: Reject | None = Field(None, exclude_if=_is_none)
    promises: Promises | None = Field(None, exclude_if=_is_none)

    def with_promises(self, promises: Promises | None) -> Self:
        """Return the manifest with other promises or without any, in the format that it needs."""
        new = {"promises": promises}
        needed = any(new.get(name, getattr(self, name)) is not None for name in NEW_FIELDS)
        return self.model_copy(update={"format": NEW_FORMAT if needed else FORMAT, **new})

    @property
    def exits(self) -> int:
        """Return the number of exits, one for each stage."""
        return len(self.stages)

    @property
    def firsts(self) -> tuple[int, ...]:
        """Return the first stage of each network, from 0."""
        return first_stages(
            [stage.inputs for stage in self.stages], [stage.features for stage in self.stages]
        )

    @property
    def full_flops(self) -> int:
        """Return the flops of a request that evaluates only the last exit."""
        return self.flops_of(self.exits, [False] * self.exits)

    def flops_of(self, exit: int, asked: Sequence[bool]) -> int:  # noqa: A002 (one word per thing)
        """Return the flops of a request that leaves at `exit` (from 1).

        Args:
            exit: Number of the exit, which is always evaluated.
            asked: For each exit, whether it is evaluated. Entries from `exit` on are ignored.
        """
        evaluated = [*asked[: exit - 1], True]
        run = stages_run(self.firsts, evaluated)
        return sum(
            stage.flops - (0 if head else stage.head_flops)
            for stage, runs, head in zip(self.stages, run, evaluated, strict=False)
            if runs
        )

    @model_validator(mode="after")
    def _stages_chain(self) -> Self:
        image = (self.input.height, self.input.width, 3)
        first = self.stages[0].inputs
        if len(first) != 1 or first[0].dtype != "uint8" or first[0].shape != image:
            raise ValueError(f"stage 1 must take one uint8 tensor of shape {image}")
        known, flops = {spec.name: spec for spec in first}, 0
        for k, stage in enumerate(self.stages, 1):
            for spec in stage.inputs:
                if known.get(spec.name) != spec:
                    raise ValueError(f"stage {k} reads {spec.name}, which no earlier stage gives")
            if again := known.keys() & {spec.name for spec in stage.features}:
                raise ValueError(f"stage {k} gives {min(again)}, as an earlier stage does")
            known |= {spec.name: spec for spec in stage.features}
            flops += stage.flops
            if stage.flops_to_exit != flops or stage.head_flops > stage.flops:
                raise ValueError(f"stage {k}: its flops do not add up")
        read = {spec.name for stage in self.stages for spec in stage.inputs}
        if unread := known.keys() - read:
            raise ValueError(f"no stage reads {min(unread)}")
        return self

    @model_validator(mode="after")
    def _format_fits(self) -> Self:
        for name in NEW_FIELDS:
            if getattr(self, name) is not None and self.format != NEW_FORMAT:
                raise ValueError(f"{name}: needs format {NEW_FORMAT}")
        if self.times is not None:
            columns = [each for s in self.times.stages for each in (s.with_head, s.without_head)]
            sizes = {len(column) for column in columns}
            if len(self.times.stages) != self.exits or sizes != {len(self.times.batches)}:
                raise ValueError("times: needs a time for each stage and batch")
        elif self.priced_in != "flops":
            raise ValueError("priced_in: needs times")
        if self.promises is not None:
            self.promises.check_bundle([stage.sha256 for stage in self.stages], [*self.budgets])
        return self

    @model_validator(mode="after")
    def _points_fit(self) -> Self:
        check_exits(self.reject, self.exits)
        points = [(f"budget {name}", point) for name, point in self.budgets.items()]
        points += [(f"curve point {i}", point) for i, point in enumerate(self.curve)]
        for what, point in points:
            if not len(point.thresholds) == len(point.exit_shares) == self.exits:
                raise ValueError(f"{what}: needs one threshold and one share for each exit")
            if point.thresholds[-1] != 0:
                raise ValueError(
                    f"{what}: the last threshold must be 0, so that every request leaves"
                )
        flops = [point.mean_flops.value for point in self.curve]
        if flops != sorted(flops):
            raise ValueError("curve: points must be in order of mean flops")
        return self


def read_manifest(folder: Path, *, promises: bool = True) -> Manifest:
    """Read and check `manifest.json` of a bundle.

    Args:
        folder: The bundle.
        promises: False to leave its promises out, which are then not checked.

    Raises:
        BundleError: The file is missing, not a regular file, too large, or not a manifest of this
            format.
    """
    path = folder / MANIFEST
    try:
        text = read_regular_file(path, MAX_MANIFEST_BYTES + 1)
        if len(text) > MAX_MANIFEST_BYTES:
            raise BundleError(path, f"larger than {MAX_MANIFEST_BYTES} bytes; not a manifest")
        return Manifest.model_validate_json(text if promises else without_promises(text))
    except OSError as error:
        remedy = "a bundle is a folder that `python -m exporter` writes"
        raise BundleError(path, f"cannot be read ({error.strerror}); {remedy}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise BundleError(
            path, f"{where}: {first['msg']}{more}; export the bundle again"
        ) from error
