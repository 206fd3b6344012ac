"""The operating point of a budget or a promise."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from offramp.bundle.manifest import Manifest, OperatingPoint
from offramp.bundle.promises import Level, Promise, parse_level
from serving.engine.budgets.milliseconds import Milliseconds, Timed
from serving.errors import BudgetTooLowError, UnknownBudgetError, UnknownPromiseError

NUMERIC = "numeric"
DEFAULT_BUDGET = "medium"
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_DIGITS = r"(\d{1,15}(?:\.\d{1,15})?)"
_FLOPS = re.compile(_DIGITS + "([kKmMgG%]?)", re.ASCII)
_MILLISECONDS = re.compile(_DIGITS + "ms", re.ASCII)


class Found(NamedTuple):
    """An operating point.

    Attributes:
        name: Label in the metrics.
        thresholds: One for each exit.
        promise: The certified promise of the point. `None`: it has no such promise.
        timed: The meaning of a budget in milliseconds. `None`: the budget is another one.
    """

    name: str
    thresholds: tuple[float, ...]
    promise: Promise | None = None
    timed: Timed | None = None


def default_budget(manifest: Manifest) -> str:
    """Return the budget of a request without one: `medium`, or else the last named."""
    names = list(manifest.budgets)
    return DEFAULT_BUDGET if DEFAULT_BUDGET in names else names[-1]


def budget_names(manifest: Manifest) -> list[str]:
    """Return the names that a budget can have: of budgets, and of promises."""
    offered = manifest.promises.offered if manifest.promises else ()
    return [*manifest.budgets, *(each.name for each in offered if each.name is not None)]


def in_milliseconds(budget: str | None) -> bool:
    """Return whether a budget is written in milliseconds, which depend on the machine."""
    return budget is not None and _MILLISECONDS.fullmatch(budget) is not None


class PointFinder:
    """Finds the operating points of a manifest.

    Args:
        manifest: Manifest of the bundle.
        milliseconds: Its points in milliseconds. `None`: this machine measured no times.
        every_exit: All heads on the way run, which takes more milliseconds.
    """

    def __init__(
        self, manifest: Manifest, milliseconds: Milliseconds | None, *, every_exit: bool
    ) -> None:
        self._manifest = manifest
        self._milliseconds = milliseconds
        self._every_exit = every_exit

    def of_budget(self, asked: str) -> Found:
        """Return the operating point of a budget.

        Raises:
            UnknownBudgetError: The budget is neither a name nor a number, or no times are known.
            BudgetTooLowError: No operating point is that cheap.
        """
        manifest = self._manifest
        if asked in manifest.budgets:
            return Found(asked, manifest.budgets[asked].thresholds)
        if named := _named(manifest, asked):
            return _promised(named)
        if in_milliseconds(asked):
            return self._within_time(asked)
        return Found(NUMERIC, _best_within(manifest, self._flops(asked)).thresholds)

    def of_promise(self, asked: str, budget: str | None) -> Found:
        """Return the cheapest point that holds a promise, within a budget if one is given.

        Raises:
            UnknownPromiseError: No certified promise holds this one.
            UnknownBudgetError: The budget is neither a name nor a number, or no times are known.
            BudgetTooLowError: The point costs more than the budget.
        """
        promise = _holding(self._manifest, asked)
        if budget is not None and in_milliseconds(budget):
            self._check_time(promise, asked, budget)
        elif budget is not None:
            self._check_flops(promise, asked, budget)
        return _promised(promise)

    def _within_time(self, asked: str) -> Found:
        most = float(asked.removesuffix("ms"))
        point = self._timed(asked).within(most, every_exit=self._every_exit)
        return Found(NUMERIC, point.thresholds, timed=point.timed)

    def _check_time(self, promise: Promise, asked: str, budget: str) -> None:
        taken = self._timed(budget).at_start.mean(promise, every_exit=self._every_exit)
        if taken > float(budget.removesuffix("ms")):
            raise BudgetTooLowError(
                f"budget: promise={asked} takes {taken:.3g} ms of compute in the mean on this "
                f"machine, and {budget} allows less; allow as many, or leave one of the two out"
            )

    def _check_flops(self, promise: Promise, asked: str, budget: str) -> None:
        manifest, flops = self._manifest, promise.mean_flops.value
        most = self._named_flops(budget)
        if flops > most:
            raise BudgetTooLowError(
                f"budget: promise={asked} takes {math.ceil(flops)} flops in the mean (about "
                f"{100 * flops / manifest.full_flops:.1f}% of full depth), and {budget} allows "
                f"{most:.0f}; allow as many, or leave one of the two out"
            )

    def _named_flops(self, budget: str) -> float:
        """Return the flops that a budget of any kind but milliseconds allows."""
        if budget in self._manifest.budgets:
            return self._manifest.budgets[budget].mean_flops.value
        named = _named(self._manifest, budget)
        return named.mean_flops.value if named else self._flops(budget)

    def _timed(self, asked: str) -> Milliseconds:
        if self._milliseconds is None:
            raise UnknownBudgetError(
                f"budget: {asked} depends on the machine, and the manifest has no figures for it; "
                "state flops (120M) or a share (40%) here"
            )
        return self._milliseconds

    def _flops(self, asked: str) -> float:
        number = _FLOPS.fullmatch(asked)
        if number is None:
            raise _unknown_budget(self._manifest, asked)
        digits, unit = number.groups()
        if unit == "%":
            return float(digits) / 100 * self._manifest.full_flops
        return float(digits) * UNITS[unit.lower()]


def _named(manifest: Manifest, budget: str) -> Promise | None:
    """Return the promise that has a budget as its name, if there is one."""
    return manifest.promises.named(budget) if manifest.promises else None


def _unknown_budget(manifest: Manifest, asked: str) -> UnknownBudgetError:
    names = ", ".join(budget_names(manifest))
    return UnknownBudgetError(
        f"budget: {asked[:64]!r} is not one of {names}, nor flops (120M), nor a share (40%), nor "
        "milliseconds of compute (8ms)"
    )


def _promised(promise: Promise) -> Found:
    return Found(promise.label, promise.thresholds, promise)


def _holding(manifest: Manifest, asked: str) -> Promise:
    record = manifest.promises
    if record is None:
        raise UnknownPromiseError(
            "promise: this bundle promises nothing; leave it out, or certify the bundle with "
            "offramp certify"
        )
    offered = ", ".join(str(each.level) for each in record.offered)
    level = _level_in(asked, offered)
    promise = record.cheapest(level)
    if promise is None:
        raise UnknownPromiseError(
            f"promise: {level} is not certified for this bundle, which offers {offered}"
        )
    return promise


def _level_in(asked: str, offered: str) -> Level:
    try:
        return parse_level(asked)
    except ValueError as error:
        raise UnknownPromiseError(f"promise: {error}; this bundle offers {offered}") from error


def _best_within(manifest: Manifest, flops: float) -> OperatingPoint:
    """Return the most accurate point of the curve with mean flops of at most `flops`.

    Of points that are equally accurate it is the dearest, which agrees more often with full depth.
    """
    affordable = [point for point in manifest.curve if point.mean_flops.value <= flops]
    if not affordable:
        cheapest = math.ceil(manifest.curve[0].mean_flops.value)
        percent = 100 * cheapest / manifest.full_flops
        raise BudgetTooLowError(
            f"budget: {flops:.0f} flops are below the cheapest operating point; "
            f"ask for at least {cheapest} flops (about {percent:.1f}% of full depth)"
        )
    return max(affordable, key=lambda point: (point.accuracy.value, point.mean_flops.value))
