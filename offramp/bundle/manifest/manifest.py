"""The content of `manifest.json`, and the checks that its parts fit together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from offramp.bundle.manifest.images import HeldOut, ImageInput
from offramp.bundle.manifest.points import OperatingPoint
from offramp.bundle.manifest.provenance import Provenance
from offramp.bundle.manifest.stages import StageSpec, first_stages, stages_run
from offramp.bundle.promises import Promises
from offramp.bundle.reject import Reject, check_exits
from offramp.bundle.values import (
    FrozenRecord,
    MeasuredTimes,
    Name,
    Price,
    SolvedFor,
    Version,
    is_none,
)

FORMAT: Literal[2] = 2
NEW_FORMAT: Literal[3] = 3  # the same, with any of these
NEW_FIELDS = ("solved_for", "times", "promises")


def format_for(fields: Mapping[str, object]) -> Literal[2, 3]:
    """Return the oldest format that has these fields. One that is `None` is absent."""
    return FORMAT if all(fields.get(name) is None for name in NEW_FIELDS) else NEW_FORMAT


def _is_flops(price: str) -> bool:
    return price == "flops"


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
        exclude_if=is_none,
    )
    times: MeasuredTimes | None = Field(
        None, description="compute times where the bundle was made", exclude_if=is_none
    )
    priced_in: Price = Field(
        "flops",
        description="what going on costs on the path: flops, or the milliseconds in `times`",
        exclude_if=_is_flops,
    )
    held_out: HeldOut
    provenance: Provenance
    reject: Reject | None = Field(None, exclude_if=is_none)
    promises: Promises | None = Field(None, exclude_if=is_none)

    def with_promises(self, promises: Promises | None) -> Self:
        """Return the manifest with other promises or without any, in the format that it needs."""
        fields = {name: getattr(self, name) for name in NEW_FIELDS} | {"promises": promises}
        return self.model_copy(update={"format": format_for(fields), "promises": promises})

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
        return sum(self.full_stage_flops)

    @property
    def full_stage_flops(self) -> tuple[int, ...]:
        """Return the flops of each stage for such a request, 0 for a stage that does not run."""
        return self._stage_flops([False] * (self.exits - 1) + [True])

    def flops_of(self, exit: int, asked: Sequence[bool]) -> int:  # noqa: A002 (one word per thing)
        """Return the flops of a request that leaves at `exit` (from 1).

        Args:
            exit: Number of the exit, which is always evaluated.
            asked: For each exit, whether it is evaluated. Entries from `exit` on are ignored.
        """
        return sum(self._stage_flops([*asked[: exit - 1], True]))

    def _stage_flops(self, evaluated: Sequence[bool]) -> tuple[int, ...]:
        run = stages_run(self.firsts, evaluated)
        return tuple(
            runs * (stage.flops - (0 if head else stage.head_flops))
            for stage, runs, head in zip(self.stages, run, evaluated, strict=False)
        )

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) < len(labels):
            raise ValueError(f"{max(labels, key=labels.count)!r} is there twice; rename one")
        return labels

    @model_validator(mode="after")
    def _stages_chain(self) -> Self:
        self._check_image()
        known, flops = {spec.name: spec for spec in self.stages[0].inputs}, 0
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

    def _check_image(self) -> None:
        image = (self.input.height, self.input.width, 3)
        first = self.stages[0].inputs
        if len(first) != 1 or first[0].dtype != "uint8" or first[0].shape != image:
            raise ValueError(f"stage 1 must take one uint8 tensor of shape {image}")

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
