"""The evaluation of a finished run: each exit, its calibration and its budgets, on every set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from training.data.datasets import Dataset
from training.data.images import ImageFiles
from training.data.reopen import reopen_dataset, without_damaged
from training.errors import CheckpointError, DataError
from training.evaluation.budgeted import (
    PROCEDURES,
    Curve,
    Summary,
    accuracy_at,
    crossfit_measures,
    measure,
    summarize,
)
from training.evaluation.calibration_error import Reliability, auroc, reliability, wilson
from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds
from training.evaluation.labelled_logits import (
    LabelledLogits,
    agrees,
    score,
    temperatures_of,
)
from training.evaluation.thresholds import best_within
from training.fit.checkpoint import Progress
from training.networks.confidence import max_softmax

BUDGET_SHARES = (0.25, 0.5, 0.75)  # budgets in the report, as shares of full depth's flops
MEDIUM = 0.5  # the share that a bundle calls medium


@dataclass(frozen=True, slots=True)
class ExitQuality:
    """Results of an exit on one set: accuracy with its 95 % interval, calibration, AUROC."""

    accuracy: float
    interval: tuple[float, float]
    raw: Reliability
    calibrated: Reliability
    auroc: float | None


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """Results of a budget's thresholds on one set. `shares` are those that leave at each exit."""

    mean_flops: float
    accuracy: float
    agreement: float
    shares: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SetAssessment:
    """All results on one set: curves and summaries by procedure, budgets by share.

    `agreement` has curves of the answers that agree with full depth, for the same thresholds.
    """

    name: str
    images: int
    exits: tuple[ExitQuality, ...]
    curves: Mapping[str, Curve]
    agreement: Mapping[str, Curve]
    summaries: Mapping[str, Summary]
    budgets: Mapping[float, BudgetResult]


@dataclass(frozen=True, slots=True)
class Assessment:
    """Temperatures from the held-out images, and the results on each set.

    `pseudo` is True if accuracy is agreement with the last exit.
    """

    temperatures: tuple[float, ...]
    sets: tuple[SetAssessment, ...]
    pseudo: bool = False


def own_dataset(progress: Progress, source: str, *, strict: bool = False) -> Dataset[ImageFiles]:
    """Open the images of a run at `source`, split as in the run.

    With `strict`, a data set with files that are left out is refused.

    Raises:
        DataError: The images cannot be loaded.
        CheckpointError: The images are not those of the run.
    """
    images = (progress.train_images, None)
    dataset = reopen_dataset(source, progress.recipe, images, labels=progress.labels, strict=strict)
    try:
        if dataset.fingerprint(progress.fingerprint) == progress.fingerprint:
            return dataset
    except DataError:
        # The run may have left these images out, with --skip-damaged.
        dataset = without_damaged(dataset)[0]
        if dataset.fingerprint(progress.fingerprint) != progress.fingerprint:
            raise
        return dataset
    raise CheckpointError(f"--data: {source} is not the data of the checkpoint")


def assess(
    held_out: LabelledLogits,
    test: LabelledLogits | None,
    flops: Floats,
    starts: Sequence[int] = (0,),
) -> Assessment:
    """Solve on the held-out images, measure on them (cross-fitted) and on the test images.

    Args:
        held_out: Logits of images that the network was not trained on, in random order.
        test: Logits of test images, which are only measured.
        flops: Multiply-adds up to each exit, float64 [exits].
        starts: First stage of each part of the network, from 0.
    """
    temperatures = temperatures_of(held_out)
    scored = score(held_out, temperatures, flops, starts)
    solved = {name: procedure(scored) for name, procedure in PROCEDURES.items()}
    front = next(iter(solved.values()))
    points = {share: best_within(front, share * scored.full_flops) for share in BUDGET_SHARES}
    fitted = {
        name: crossfit_measures(scored, procedure, [scored.right, agrees(held_out)])
        for name, procedure in PROCEDURES.items()
    }
    curves, agreement = ({name: each[k] for name, each in fitted.items()} for k in range(2))
    budgets = _cross_fitted(points, curves, agreement)
    sets = [_assessed("held-out", held_out, scored, (curves, agreement), budgets)]
    if test is not None:
        scored = score(test, temperatures, flops, starts)
        agreeing = replace(scored, right=agrees(test))
        curves, agreement = (
            {name: measure(points, each) for name, points in solved.items()}
            for each in (scored, agreeing)
        )
        budgets = _measured(points, scored, agreeing)
        sets.append(_assessed("test", test, scored, (curves, agreement), budgets))
    return Assessment(temperatures, tuple(sets), held_out.pseudo)


def _assessed(
    name: str,
    given: LabelledLogits,
    scored: Scored,
    measured: tuple[Mapping[str, Curve], Mapping[str, Curve]],
    budgets: Mapping[float, BudgetResult],
) -> SetAssessment:
    curves, agreement = measured
    summaries = {procedure: summarize(curve, scored) for procedure, curve in curves.items()}
    exits = tuple(_quality(given.logits[k], scored, k) for k in range(len(scored.flops)))
    return SetAssessment(name, scored.images, exits, curves, agreement, summaries, budgets)


def _quality(logits: Tensor, scored: Scored, k: int) -> ExitQuality:
    """Evaluate exit k (from 0), with the logits [N, classes], on a set."""
    right, accuracy = scored.right[k], float(scored.right[k].mean())
    return ExitQuality(
        accuracy,
        wilson(accuracy, scored.images),
        reliability(max_softmax(torch.softmax(logits, dim=1)).numpy(), right),
        reliability(scored.confidence[k], right),
        auroc(scored.confidence[k], right),
    )


def _cross_fitted(
    points: Mapping[float, Tradeoff],
    curves: Mapping[str, Curve],
    agreement: Mapping[str, Curve],
) -> dict[float, BudgetResult]:
    """Take accuracies from the first procedure's curves. Those of the points are optimistic."""
    accurate, agreeing = (next(iter(each.values())) for each in (curves, agreement))
    return {
        share: BudgetResult(
            point.mean_flops,
            _value_at(accurate, point.mean_flops),
            _value_at(agreeing, point.mean_flops),
            point.shares,
            point.thresholds,
        )
        for share, point in points.items()
    }


def _value_at(curve: Curve, flops: float) -> float:
    found = accuracy_at(curve, flops)
    return float(curve.accuracy[0]) if found is None else found


def _measured(
    points: Mapping[float, Tradeoff], scored: Scored, agreeing: Scored
) -> dict[float, BudgetResult]:
    results = {}
    for share, point in points.items():
        thresholds = np.array(point.thresholds)
        measured = apply_thresholds(scored, thresholds)
        agreement = apply_thresholds(agreeing, thresholds).accuracy
        results[share] = BudgetResult(
            measured.mean_flops,
            measured.accuracy,
            agreement,
            measured.shares,
            measured.thresholds,
        )
    return results
