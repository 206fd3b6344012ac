"""Budgets in milliseconds: the compute time of an answer on this machine, in the mean.

An answer costs the time of its batches, each divided by the number of its images. Waiting is not
part of it. The server measures this for each stage (`image_time`), first in batches of one at
warm-up, then in the batches that it runs. A point of the curve takes the mean over its exits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import NamedTuple

from offramp.bundle.manifest import Manifest, OperatingPoint, stages_run
from offramp.bundle.promises import Promise
from serving.engine.latency import Latency
from serving.errors import BudgetTooLowError

REFRESH_SECONDS = 1.0  # age up to which measured times are used again
DIGITS = 3  # of milliseconds in an error


class Timed(NamedTuple):
    """The meaning of a budget in milliseconds: means of an answer at its operating point.

    Attributes:
        milliseconds: Compute time, by the times that this machine measured.
        flops: Multiply-adds, by the manifest.
    """

    milliseconds: float
    flops: float


class PointInTime(NamedTuple):
    """Thresholds of a budget in milliseconds, and its meaning."""

    thresholds: tuple[float, ...]
    timed: Timed


class Milliseconds:
    """The operating points of a manifest in milliseconds.

    Args:
        manifest: Manifest of the bundle.
        latency: Times of its stages, which are kept up to date.
        clock: Clock in seconds.

    Attributes:
        at_start: Times at warm-up, before any load. They decide what is refused, so that a machine
            that slows down refuses no budget that it took before.
    """

    def __init__(
        self, manifest: Manifest, latency: Latency, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._manifest, self._latency, self._clock = manifest, latency, clock
        self._refreshed = clock()
        self._version = 0
        self.at_start = self._times = StageTimes(manifest, latency)

    def version(self) -> int:
        """Return a number that changes when times are read anew. What depends on it is outdated."""
        now = self._clock()
        if now - self._refreshed >= REFRESH_SECONDS:
            self._refreshed, self._version = now, self._version + 1
            self._times = StageTimes(self._manifest, self._latency)
        return self._version

    @property
    def times(self) -> StageTimes:
        """Times of the stages, at most REFRESH_SECONDS old."""
        self.version()
        return self._times

    def within(self, most: float, *, every_exit: bool = False) -> PointInTime:
        """Return the most accurate point that takes at most so many milliseconds in the mean.

        Thresholds between two neighbours on the curve are interpolated, so that the time is spent.
        It is the cheapest point if all take more by now.

        Args:
            most: Milliseconds.
            every_exit: All heads on the way run.

        Raises:
            BudgetTooLowError: The cheapest point took more at warm-up already.
        """
        curve, taken = self._manifest.curve, self.times.of_curve(every_exit=every_exit)
        found = [at for at, each in enumerate(taken) if each <= most]
        if not found:
            self._check(most, every_exit=every_exit)
            return _as_timed(curve[0], taken[0])
        best = max(found, key=lambda at: (curve[at].accuracy.value, curve[at].mean_flops.value))
        here = _as_timed(curve[best], taken[best])
        if best + 1 == len(curve):
            return here
        return _spent(here, _as_timed(curve[best + 1], taken[best + 1]), most)

    def _check(self, most: float, *, every_exit: bool) -> None:
        taken = self.at_start.of_curve(every_exit=every_exit)
        if most < min(taken):
            raise BudgetTooLowError(
                f"budget: {most:g} ms are below the cheapest operating point on this machine; ask "
                f"for at least {_rounded_up(min(taken)):g}ms (the dearest takes {max(taken):.3g}ms)"
            )


class StageTimes:
    """Milliseconds of each stage for one image, as they were measured by now.

    Args:
        manifest: Manifest of the bundle.
        latency: Times of the stages.

    Attributes:
        with_head: Milliseconds of each stage with its head.
        without_head: Milliseconds without it.
        whole_network: Milliseconds of the last network as one graph. `None`: there is no such
            graph.
    """

    def __init__(self, manifest: Manifest, latency: Latency) -> None:
        self._firsts, self._curve = manifest.firsts, manifest.curve
        stages, whole = range(latency.stages), latency.whole_network
        self.with_head = [1e3 * latency.image_time(k) for k in stages]
        self.without_head = [1e3 * latency.image_time(k, head=False) for k in stages]
        self.whole_network = None if whole is None else 1e3 * whole.image_time(0)
        self._to_exit: dict[tuple[bool, ...], list[float]] = {}
        self._of_curve: dict[bool, list[float]] = {}

    def of_curve(self, *, every_exit: bool = False) -> list[float]:
        """Return the mean milliseconds of an answer at each point of the curve."""
        if every_exit not in self._of_curve:
            means = [self.mean(point, every_exit=every_exit) for point in self._curve]
            self._of_curve[every_exit] = means
        return self._of_curve[every_exit]

    def mean(self, point: OperatingPoint | Promise, *, every_exit: bool = False) -> float:
        """Return the mean milliseconds of an answer at a point, by its shares of exits."""
        asks = (*(every_exit or threshold <= 1 for threshold in point.thresholds[:-1]), True)
        shares = [share.value for share in point.exit_shares]
        to_exit = self.to_exit(asks)
        return sum(map(math.prod, zip(shares, to_exit, strict=True))) / (sum(shares) or 1.0)

    def to_exit(self, asks: tuple[bool, ...]) -> list[float]:
        """Return the milliseconds of an answer at each exit, if these exits are evaluated."""
        if asks not in self._to_exit:
            self._to_exit[asks] = [self._at(k, asks) for k in range(len(asks))]
        return self._to_exit[asks]

    def _at(self, last: int, asks: tuple[bool, ...]) -> float:
        evaluated = [*asks[:last], True]
        runs = stages_run(self._firsts, evaluated)
        tables = (self.without_head, self.with_head)
        each = [tables[head][k] if runs[k] else 0.0 for k, head in enumerate(evaluated)]
        first = self._firsts[-1]
        at_end = last == len(asks) - 1
        if at_end and self.whole_network is not None and not any(asks[first:-1]):
            return sum(each[:first]) + self.whole_network
        return sum(each)


def _as_timed(point: OperatingPoint, milliseconds: float) -> PointInTime:
    return PointInTime(point.thresholds, Timed(milliseconds, point.mean_flops.value))


def _spent(here: PointInTime, beyond: PointInTime, most: float) -> PointInTime:
    """Return the point between two that takes `most` milliseconds. `here` if both take the same."""
    now, later = here.timed.milliseconds, beyond.timed.milliseconds
    return _between(here, beyond, (most - now) / (later - now)) if later > now else here


def _between(low: PointInTime, high: PointInTime, fraction: float) -> PointInTime:
    """Return the point at a fraction of the way, if both evaluate the same exits, else `low`."""
    pairs = list(zip(low.thresholds, high.thresholds, strict=True))
    if any((a <= 1) != (b <= 1) for a, b in pairs) or not 0 < fraction < 1:
        return low
    thresholds = tuple(a + fraction * (b - a) for a, b in pairs)
    means = (a + fraction * (b - a) for a, b in zip(low.timed, high.timed, strict=True))
    return PointInTime(thresholds, Timed(*means))


def _rounded_up(value: float) -> float:
    """Return the next number with DIGITS digits, so that it is enough."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    return math.ceil(value / unit) * unit
