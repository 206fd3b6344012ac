"""Compute times of a server as its API states them."""

from __future__ import annotations

import math

from pydantic import Field

from offramp.bundle.manifest import Manifest
from offramp.bundle.values import FrozenRecord, MeasuredTimes
from serving.engine.budgets.milliseconds import Milliseconds


class StageMilliseconds(FrozenRecord):
    """Compute time of a stage for one image."""

    with_head: float
    without_head: float


class ServerTimes(FrozenRecord):
    """Compute times for one image as this server measures them, in milliseconds.

    A batch of n images counts as n images of an n-th of its time: of the last 30 batches or so, at
    first of one image alone. Waiting is not part of it. These are means of answers.
    """

    stages: tuple[StageMilliseconds, ...]
    whole_network: float | None = Field(
        description="all stages in one graph, for requests that evaluate only the last exit (null: "
        "there is no such graph)"
    )
    budgets: dict[str, float] = Field(description="mean of an answer, by named budget")
    cheapest: float = Field(description="least that can be asked for, by times at start")
    dearest: float = Field(description="most that the curve takes. A larger budget is not spent")
    exporter: MeasuredTimes | None = Field(
        None,
        exclude_if=lambda record: record is None,
        description="times where the bundle was made, as the manifest states them",
    )


def describe_times(manifest: Manifest, milliseconds: Milliseconds) -> ServerTimes:
    """Return the times of a server for its API."""
    times, at_start = milliseconds.times, milliseconds.at_start.of_curve()
    pairs = zip(times.with_head, times.without_head, strict=True)
    return ServerTimes(
        stages=tuple(
            StageMilliseconds(with_head=_short(whole), without_head=_short(trunk))
            for whole, trunk in pairs
        ),
        whole_network=None if times.whole_network is None else _short(times.whole_network),
        budgets={name: _short(times.mean(point)) for name, point in manifest.budgets.items()},
        cheapest=math.ceil(min(at_start) * 1e4) / 1e4,  # so that it can be asked for
        dearest=_short(max(times.of_curve())),
        exporter=manifest.times,
    )


def _short(milliseconds: float) -> float:
    return round(milliseconds, 4)
