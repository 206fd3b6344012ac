"""Accuracy, flops and exits of budgets on labelled images, beside what the manifest states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest, OperatingPoint
from offramp.bundle.values import Estimate
from offramp.data.records import Split
from offramp.errors import OfframpError
from offramp.evaluation.intervals import Z_MEASURED, predicted_mean, predicted_share, wilson
from offramp.evaluation.results import (
    BudgetEvaluation,
    Evaluation,
    Interval,
    Measurement,
    SkippedImage,
)
from serving.engine.opinion import score_of
from serving.engine.policy import MIN_CONFIDENCE, Policy, resolve
from serving.engine.request import Answer
from serving.errors import ParameterError

NEVER = 2.0  # a threshold that no confidence reaches


class EvaluationError(OfframpError):
    """There is nothing to evaluate."""


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

    def evaluation(self, split: Split) -> Evaluation:
        """Compute the budgets.

        Args:
            split: Split that the images are.

        Raises:
            EvaluationError: No image was added.
        """
        if not self._confidences:
            first = "".join(f"; {each.name}: {each.reason}" for each in self._skipped[:1])
            raise EvaluationError(f"no image could be evaluated{first}")
        confidences, right = np.stack(self._confidences, axis=1), np.stack(self._right, axis=1)
        budgets = tuple(self._evaluated(each, confidences, right) for each in self._budgets)
        skipped = tuple(self._skipped)
        return Evaluation(right.shape[1], split, self._manifest.full_flops, budgets, skipped)

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
