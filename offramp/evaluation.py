"""Accuracy, flops and exits of budgets on labelled images, beside what the manifest states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest, OperatingPoint
from offramp.bundle.values import Estimate
from offramp.data.records import LeftOut
from offramp.errors import OfframpError
from serving.engine.policy import MIN_CONFIDENCE, Policy, resolve
from serving.engine.request import Answer, score_of
from serving.errors import ParameterError

Z_MEASURED = 1.96  # 95 %, two-sided
Z_STATED = 3.29  # 99.9 %, two-sided: the manifest's
NEVER = 2.0  # a threshold that no confidence reaches


class EvaluationError(OfframpError):
    """There is nothing to evaluate."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a value, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Measurement:
    """A mean over the evaluated images, beside the same mean in the manifest.

    Attributes:
        value: The mean.
        interval: Its 95 % interval: Wilson's for a share, the normal one for flops.
        stated: The manifest's estimate, from its held-out images.
        predicted: The manifest's 99.9 % prediction interval for as many images as these.
    """

    value: float
    interval: Interval
    stated: Estimate
    predicted: Interval

    @property
    def agrees(self) -> bool:
        """Tell if the value lies in the predicted interval."""
        return self.value in self.predicted


@dataclass(frozen=True, slots=True)
class BudgetEvaluation:
    """Result of a budget on the evaluated images.

    Attributes:
        budget: The budget as requested.
        accuracy: Share of images with the right class.
        mean_flops: Multiply-adds of an image.
        exit_shares: For each exit, the share of images that left there.
        rejected: Share of images rejected, all of them wrongly. `None` unless the manifest states
            it for this budget.
    """

    budget: str
    accuracy: Measurement
    mean_flops: Measurement
    exit_shares: tuple[Measurement, ...]
    rejected: Measurement | None = None

    @property
    def agrees(self) -> bool:
        """Tell if all measurements agree with the manifest."""
        measured = (self.accuracy, self.mean_flops, *self.exit_shares, self.rejected)
        return all(measurement.agrees for measurement in measured if measurement is not None)


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """An image that could not be evaluated, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Budgets on a data set.

    Attributes:
        images: Images evaluated.
        full_flops: Multiply-adds of the whole network.
        budgets: One entry for each budget.
        skipped: Images that could not be evaluated. They count in no mean.
        left_out: Files that are not part of the data set, with reasons.
    """

    images: int
    full_flops: int
    budgets: tuple[BudgetEvaluation, ...]
    skipped: tuple[SkippedImage, ...]
    left_out: tuple[LeftOut, ...] = ()


def wilson(share: float, images: int, z: float = Z_MEASURED) -> Interval:
    """Return Wilson's interval of a share among `images` (z = 1.96: 95 %)."""
    centre = (share + z * z / (2 * images)) / (1 + z * z / images)
    spread = share * (1 - share) / images + z * z / (4 * images * images)
    half = z * math.sqrt(spread) / (1 + z * z / images)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def predicted_share(share: float, images: int, new: int, z: float = Z_STATED) -> Interval:
    """Return the prediction interval for a share among `new` images, from that among `images`.

    Agresti and Coull's adjusted share, with the variance of the difference of two samples. For
    `new` = `images` this is the interval of the manifest.
    """
    adjusted = (share * images + z * z / 2) / (images + z * z)
    half = z * math.sqrt(adjusted * (1 - adjusted) * (1 / images + 1 / new))
    return Interval(max(0.0, min(share, adjusted - half)), min(1.0, max(share, adjusted + half)))


def predicted_mean(stated: Estimate, images: int, new: int) -> Interval:
    """Return the manifest's interval for a mean over `images`, scaled to one over `new`."""
    scale = math.sqrt((1 + images / new) / 2)
    return Interval(
        stated.value - scale * (stated.value - stated.low),
        stated.value + scale * (stated.high - stated.value),
    )


@dataclass(frozen=True, slots=True)
class _Budget:
    policy: Policy
    point: OperatingPoint


class Evaluator:
    """Collects the predictions of all exits and computes each budget from them.

    Args:
        manifest: The manifest of the bundle.
        budgets: Budgets to evaluate. `None`: those of the manifest.

    Attributes:
        policy: The policy under which images must run: to the last exit, all exits explained.

    Raises:
        ParameterError: A budget that is the name of a promise.
        UnknownBudgetError: A budget that is neither a name nor a number.
        BudgetTooLowError: A numeric budget below the cheapest operating point.
    """

    def __init__(self, manifest: Manifest, budgets: Sequence[str] | None = None) -> None:
        self._manifest = manifest
        names = list(manifest.budgets) if budgets is None else budgets
        self._budgets = [_budget(manifest, name) for name in names]
        self._confidences: list[NDArray[np.float64]] = []
        self._right: list[NDArray[np.bool_]] = []
        self._scores: list[NDArray[np.float64]] = []
        self._skipped: list[SkippedImage] = []
        never = (NEVER,) * (manifest.exits - 1)
        reject = None if manifest.reject is None else manifest.reject.thresholds
        self.policy = Policy(
            MIN_CONFIDENCE, "all exits", (*never, 0.0), explain=True, reject=reject
        )

    def add(self, answer: Answer, label: int) -> None:
        """Add an image that ran under `policy`, and the index of its class."""
        opinions = [opinion for opinion in answer.opinions if opinion is not None]
        self._confidences.append(np.array([opinion.confidence for opinion in opinions]))
        self._right.append(
            np.array([opinion.probabilities.argmax() == label for opinion in opinions])
        )
        self._scores.append(np.array([score_of(opinion) for opinion in opinions]))

    def skip(self, name: str, reason: str) -> None:
        """Record an image that could not be evaluated."""
        self._skipped.append(SkippedImage(name, reason))

    def evaluation(self) -> Evaluation:
        """Compute the budgets.

        Raises:
            EvaluationError: No image was added.
        """
        if not self._confidences:
            reason = (
                f"; {self._skipped[0].name}: {self._skipped[0].reason}" if self._skipped else ""
            )
            raise EvaluationError(f"no image could be evaluated{reason}")
        confidences, right = np.stack(self._confidences, axis=1), np.stack(self._right, axis=1)
        budgets = tuple(self._evaluated(each, confidences, right) for each in self._budgets)
        skipped = tuple(self._skipped)
        return Evaluation(right.shape[1], self._manifest.full_flops, budgets, skipped)

    def _evaluated(
        self, budget: _Budget, confidences: NDArray[np.float64], right: NDArray[np.bool_]
    ) -> BudgetEvaluation:
        policy, images = budget.policy, right.shape[1]
        exits = (confidences >= np.array(policy.thresholds)[:, None]).argmax(axis=0)
        numbers = range(1, self._manifest.exits + 1)
        costs = np.array([self._manifest.flops_of(exit_, policy.asks) for exit_ in numbers])
        shares = np.bincount(exits, minlength=len(numbers)) / images
        accuracy = float(right[exits, np.arange(images)].mean())
        stated = zip(shares.tolist(), budget.point.exit_shares, strict=True)
        return BudgetEvaluation(
            policy.asked,
            self._share(accuracy, budget.point.accuracy, images),
            self._mean(costs[exits].astype(np.float64), budget.point.mean_flops),
            tuple(self._share(share, estimate, images) for share, estimate in stated),
            self._rejected(policy.asked, exits),
        )

    def _rejected(self, budget: str, exits: NDArray[np.intp]) -> Measurement | None:
        record, images = self._manifest.reject, len(exits)
        if record is None or budget not in record.budgets:
            return None
        scores, value = np.stack(self._scores, axis=1), record.budgets[budget].false_reject
        rejected = scores[exits, np.arange(images)] < np.array(record.thresholds)[exits]
        held_out = self._manifest.held_out.images
        own = predicted_share(value, held_out, held_out)
        stated = Estimate(value=value, low=own.low, high=own.high)
        return self._share(float(rejected.mean()), stated, images)

    def _share(self, share: float, stated: Estimate, images: int) -> Measurement:
        predicted = predicted_share(stated.value, self._manifest.held_out.images, images)
        return Measurement(share, wilson(share, images), stated, predicted)

    def _mean(self, values: NDArray[np.float64], stated: Estimate) -> Measurement:
        mean, images = float(values.mean()), len(values)
        half = Z_MEASURED * float(values.std()) / math.sqrt(images)
        predicted = predicted_mean(stated, self._manifest.held_out.images, images)
        return Measurement(mean, Interval(mean - half, mean + half), stated, predicted)


def _budget(manifest: Manifest, name: str) -> _Budget:
    policy = resolve(manifest, name)
    if policy.promise is not None:
        raise ParameterError(
            f"budget: {name} is the name of a promise, for which the manifest states no accuracy; "
            "evaluate other budgets"
        )
    points = [*manifest.budgets.values(), *manifest.curve]
    point = next(each for each in points if each.thresholds == policy.thresholds)
    return _Budget(policy, point)
