"""The evaluation of a finished run: each exit, its calibration and its budgets, on every set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.datasets import Dataset
from training.data.images import ImageFiles, Images
from training.data.reopen import reopen_dataset, without_damaged
from training.errors import CheckpointError, DataError
from training.evaluation.budgeted import (
    PROCEDURES,
    Curve,
    Summary,
    accuracy_at,
    crossfit,
    measure,
    summarize,
)
from training.evaluation.calibration_error import Reliability, auroc, reliability, wilson
from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds
from training.evaluation.thresholds import best_within, fit_temperature
from training.fit.checkpoint import Progress
from training.networks.confidence import max_softmax
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import predict

BUDGET_SHARES = (0.25, 0.5, 0.75)  # budgets in the report, as shares of full depth's flops
MEDIUM = 0.5  # the share that a bundle calls medium


@dataclass(frozen=True, slots=True)
class LabelledLogits:
    """Logits of every exit, float32 [exits, N, classes], and targets int64 [N].

    `pseudo` is True if the targets are the predictions of the last exit.
    """

    logits: Tensor
    targets: Tensor
    pseudo: bool = False


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
    shares: tuple[float, ...]
    thresholds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SetAssessment:
    """All results on one set: curves and summaries by procedure, budgets by share."""

    name: str
    images: int
    exits: tuple[ExitQuality, ...]
    curves: Mapping[str, Curve]
    summaries: Mapping[str, Summary]
    budgets: Mapping[float, BudgetResult]


@dataclass(frozen=True, slots=True)
class Assessment:
    """Temperatures from the held-out images, and the results on each set."""

    temperatures: tuple[float, ...]
    sets: tuple[SetAssessment, ...]


def own_dataset(progress: Progress, source: str, *, strict: bool = False) -> Dataset[ImageFiles]:
    """Open the images of a run at `source`, split as in the run.

    With `strict`, a data set with files that are left out is refused.

    Raises:
        DataError: the images cannot be loaded.
        CheckpointError: the images are not those of the run.
    """
    images = (progress.train_images, None)
    dataset = reopen_dataset(source, progress.recipe, images, labels=progress.labels, strict=strict)
    try:
        if dataset.fingerprint() == progress.fingerprint:
            return dataset
    except DataError:
        # The run may have left these images out, with --skip-damaged.
        dataset = without_damaged(dataset)[0]
        if dataset.fingerprint() != progress.fingerprint:
            raise
        return dataset
    raise CheckpointError(f"--data: {source} is not the data of the checkpoint")


def labelled_logits(network: MultiExitNetwork, images: Images | ImageFiles) -> LabelledLogits:
    """Compute the logits of images on the network's device. The result is on the CPU.

    Images without labels get pseudo-labels.
    """
    device = next(network.parameters()).device
    logits, targets = [], []
    for part in images.parts():
        logits.append(predict(network, part.pixels.to(device)).cpu())
        targets.append(part.targets.cpu())
    found = torch.cat(logits, dim=1)
    if not images.labelled:
        return LabelledLogits(found, found[-1].argmax(dim=1), pseudo=True)
    return LabelledLogits(found, torch.cat(targets))


def temperatures_of(held_out: LabelledLogits) -> tuple[float, ...]:
    """Fit the temperature of each exit. With pseudo-labels, that of the last exit is 1."""
    targets = held_out.targets.numpy()
    fitted = [fit_temperature(logits.numpy(), targets) for logits in held_out.logits]
    return (*fitted[:-1], 1.0) if held_out.pseudo else tuple(fitted)


def score(
    given: LabelledLogits,
    temperatures: Sequence[float],
    flops: Floats,
    starts: Sequence[int] = (0,),
) -> Scored:
    """Compute confidence (calibrated maximum softmax) and correctness of each exit.

    Args:
        given: logits and labels.
        temperatures: temperature of each exit.
        flops: multiply-adds up to each exit.
        starts: first stage of each part of the network, from 0.
    """
    confidence = [
        max_softmax(torch.softmax(logits / temperature, dim=1))
        for logits, temperature in zip(given.logits, temperatures, strict=True)
    ]
    right = given.logits.argmax(-1) == given.targets
    # heads on the way count, as in the papers; a part in which no exit is evaluated does not
    heads = np.zeros_like(flops) if len(starts) > 1 else None
    return Scored(torch.stack(confidence).numpy(), right.numpy(), flops, heads, starts)


def assess(
    held_out: LabelledLogits,
    test: LabelledLogits | None,
    flops: Floats,
    starts: Sequence[int] = (0,),
) -> Assessment:
    """Solve on the held-out images, measure on them (cross-fitted) and on the test images.

    Args:
        held_out: logits of images that the network was not trained on, in random order.
        test: logits of test images, which are only measured.
        flops: multiply-adds up to each exit, float64 [exits].
        starts: first stage of each part of the network, from 0.
    """
    temperatures = temperatures_of(held_out)
    scored = score(held_out, temperatures, flops, starts)
    solved = {name: procedure(scored) for name, procedure in PROCEDURES.items()}
    front = next(iter(solved.values()))
    points = {share: best_within(front, share * scored.full_flops) for share in BUDGET_SHARES}
    curves = {name: crossfit(scored, procedure) for name, procedure in PROCEDURES.items()}
    sets = [_assessed("held-out", held_out, scored, curves, _cross_fitted(points, curves))]
    if test is not None:
        scored = score(test, temperatures, flops, starts)
        curves = {name: measure(points, scored) for name, points in solved.items()}
        sets.append(_assessed("test", test, scored, curves, _measured(points, scored)))
    return Assessment(temperatures, tuple(sets))


def _assessed(
    name: str,
    given: LabelledLogits,
    scored: Scored,
    curves: Mapping[str, Curve],
    budgets: Mapping[float, BudgetResult],
) -> SetAssessment:
    summaries = {procedure: summarize(curve, scored) for procedure, curve in curves.items()}
    exits = tuple(_quality(given.logits[k], scored, k) for k in range(len(scored.flops)))
    return SetAssessment(name, scored.images, exits, curves, summaries, budgets)


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
    points: Mapping[float, Tradeoff], curves: Mapping[str, Curve]
) -> dict[float, BudgetResult]:
    """Take accuracies from the first procedure's curve. Those of the points are optimistic."""
    curve = next(iter(curves.values()))
    return {
        share: BudgetResult(
            point.mean_flops,
            accuracy_at(curve, point.mean_flops) or float(curve.accuracy[0]),
            point.shares,
            point.thresholds,
        )
        for share, point in points.items()
    }


def _measured(points: Mapping[float, Tradeoff], scored: Scored) -> dict[float, BudgetResult]:
    results = {}
    for share, point in points.items():
        measured = apply_thresholds(scored, np.array(point.thresholds))
        results[share] = BudgetResult(
            measured.mean_flops, measured.accuracy, measured.shares, measured.thresholds
        )
    return results
