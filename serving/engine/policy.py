"""What a request may cost, made into thresholds.

    budget=low            a named operating point of the manifest
    budget=120M, 40%      mean flops: the most accurate point of the curve that is not dearer
    min_confidence=0.9    one threshold at every exit
    deadline_ms=50        a hard bound in time; goes with any of them

Pure: from the query's values and the manifest to a frozen `Policy`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from offramp.bundle.manifest import Manifest, OperatingPoint
from serving.errors import BudgetTooLowError, ParameterError, UnknownBudgetError

NUMERIC = "numeric"
MIN_CONFIDENCE = "min_confidence"
DEFAULT_BUDGET = "medium"
UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_NUMBER = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kKmMgG%]?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Policy:
    """When a request leaves.

    Attributes:
        name: what the metrics count it as: a named budget, `numeric` or `min_confidence`.
        asked: what the client asked for, as the answer repeats it.
        thresholds: one for each exit; the last is 0.
        deadline: seconds from arrival to the answer, at most; None for no bound.
        explain: every exit on the way is to say what it thinks.
        asks: for each exit, whether anything depends on what it thinks: a stage of which
            nobody in the batch asks runs without its head.
    """

    name: str
    asked: str
    thresholds: tuple[float, ...]
    deadline: float | None = None
    explain: bool = False
    asks: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        *early, _ = self.thresholds
        everywhere = self.explain or self.deadline is not None
        asks = (*(everywhere or threshold <= 1 for threshold in early), True)
        object.__setattr__(self, "asks", asks)

    def leaves(self, stage: int, confidence: float) -> bool:
        """Whether to leave at the exit of `stage` (from 0): at the last, whatever its number.

        NaN leaves, to be reported.
        """
        last = stage == len(self.thresholds) - 1
        return last or not confidence < self.thresholds[stage]

    def seconds_left(self, age: float) -> float | None:
        """Seconds that a request of this age has to its deadline; None without one."""
        return None if self.deadline is None else self.deadline - age


def default_budget(manifest: Manifest) -> str:
    """The budget of a request that names none: `medium`, or else the last named."""
    names = list(manifest.budgets)
    return DEFAULT_BUDGET if DEFAULT_BUDGET in names else names[-1]


def resolve(
    manifest: Manifest,
    budget: str | None = None,
    min_confidence: float | None = None,
    deadline_ms: float | None = None,
    *,
    explain: bool = False,
) -> Policy:
    """The policy of a request.

    Args:
        manifest: of the bundle that is served.
        budget: a name, a number of flops (`120M`, `1.2G`, `400k`, `9000`), or a percentage
            of full flops (`40%`).
        min_confidence: in [0, 1]; instead of a budget.
        deadline_ms: milliseconds, above 0.
        explain: ask every exit on the way.

    Raises:
        ParameterError: both a budget and a confidence were given, or a number is out of range.
        UnknownBudgetError: the budget is neither a name nor a number.
        BudgetTooLowError: no operating point is that cheap.
    """
    if deadline_ms is not None and not (math.isfinite(deadline_ms) and deadline_ms > 0):
        raise ParameterError(f"deadline_ms: must be above 0 milliseconds, got {deadline_ms:g}")
    deadline = None if deadline_ms is None else deadline_ms / 1e3
    if min_confidence is None:
        asked = default_budget(manifest) if budget is None else budget
        name, point = _operating_point(manifest, asked)
        return Policy(name, asked, point.thresholds, deadline, explain)
    if budget is not None:
        raise ParameterError("budget and min_confidence exclude each other: leave one out")
    if not 0 <= min_confidence <= 1:
        raise ParameterError(f"min_confidence: must be from 0 to 1, got {min_confidence:g}")
    thresholds = (min_confidence,) * (manifest.exits - 1) + (0.0,)
    asked = f"{MIN_CONFIDENCE}={min_confidence:g}"
    return Policy(MIN_CONFIDENCE, asked, thresholds, deadline, explain)


def _operating_point(manifest: Manifest, asked: str) -> tuple[str, OperatingPoint]:
    if asked in manifest.budgets:
        return asked, manifest.budgets[asked]
    number = _NUMBER.fullmatch(asked)
    if number is None:
        names = ", ".join(manifest.budgets)
        raise UnknownBudgetError(
            f"budget: {asked[:64]!r} is none of {names}, nor flops (120M), nor a share (40%)"
        )
    return NUMERIC, _best_within(manifest, _flops(manifest, *number.groups()))


def _flops(manifest: Manifest, digits: str, unit: str) -> float:
    if unit == "%":
        return float(digits) / 100 * manifest.full_flops
    return float(digits) * UNITS[unit.lower()]


def _best_within(manifest: Manifest, flops: float) -> OperatingPoint:
    """The most accurate point of the curve with mean flops of at most `flops`."""
    affordable = [point for point in manifest.curve if point.mean_flops.value <= flops]
    if not affordable:
        cheapest = math.ceil(manifest.curve[0].mean_flops.value)
        share = 100 * cheapest / manifest.full_flops
        raise BudgetTooLowError(
            f"budget: {flops:.0f} flops are below the cheapest operating point; "
            f"ask for at least {cheapest} flops (about {share:.1f}% of full depth)"
        )
    return max(affordable, key=lambda point: point.accuracy.value)
