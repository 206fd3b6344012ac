"""What a finished run is worth: each exit, its calibration and its budgets, on every set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.data.datasets import Dataset, open_dataset
from training.data.images import ImageFiles, Images
from training.errors import CheckpointError
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

BUDGETS = (0.25, 0.5, 0.75)  # shares of full depth's flops whose exits are shown


@dataclass(frozen=True, slots=True)
class Answers:
    """What every exit said: logits float32 [exits, N, classes] beside targets int64 [N]."""

    logits: Tensor
    targets: Tensor


@dataclass(frozen=True, slots=True)
class ExitQuality:
    """One exit on one set: accuracy with its 95 % interval, calibration, ranking."""

    accuracy: float
    interval: tuple[float, float]
    raw: Reliability
    calibrated: Reliability
    auroc: float | None


@dataclass(frozen=True, slots=True)
class Spent:
    """What the thresholds for a budget came to on one set."""

    mean_flops: float
    accuracy: float
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Assessed:
    """All that was measured on one set; curves, summaries by procedure, budgets by share."""

    name: str
    images: int
    exits: tuple[ExitQuality, ...]
    curves: Mapping[str, Curve]
    summaries: Mapping[str, Summary]
    budgets: Mapping[float, Spent]


@dataclass(frozen=True, slots=True)
class Assessment:
    """Temperatures and thresholds from the held-out images, and what they give on each set."""

    temperatures: tuple[float, ...]
    sets: tuple[Assessed, ...]


def own_dataset(progress: Progress, source: str) -> Dataset[ImageFiles]:
    """The images of a run, found at `source`.

    Raises:
        DataError: they cannot be loaded.
        CheckpointError: they are others.
    """
    recipe = progress.recipe
    dataset = open_dataset(source, recipe.size, recipe.held_out, recipe.seed)
    if dataset.fingerprint() != progress.fingerprint:
        raise CheckpointError(f"--data: {source} is not what the checkpoint was trained on")
    return dataset


def answers(network: MultiExitNetwork, images: Images | ImageFiles) -> Answers:
    """What a network says of images, wherever it lives; the answers are on the CPU."""
    device = next(network.parameters()).device
    logits, targets = [], []
    for some in images.parts():
        logits.append(predict(network, some.pixels.to(device)).cpu())
        targets.append(some.targets.cpu())
    return Answers(torch.cat(logits, dim=1), torch.cat(targets))


def temperatures_of(held_out: Answers) -> tuple[float, ...]:
    """The temperature of each exit."""
    targets = held_out.targets.numpy()
    return tuple(fit_temperature(logits.numpy(), targets) for logits in held_out.logits)


def score(given: Answers, temperatures: Sequence[float], flops: Floats) -> Scored:
    """Confidence (calibrated maximum softmax) and correctness of answers."""
    confidence = [
        max_softmax(torch.softmax(logits / temperature, dim=1))
        for logits, temperature in zip(given.logits, temperatures, strict=True)
    ]
    right = given.logits.argmax(-1) == given.targets
    return Scored(torch.stack(confidence).numpy(), right.numpy(), flops)


def assess(held_out: Answers, test: Answers | None, flops: Floats) -> Assessment:
    """Solve on the held-out images, measure on them (cross-fitted) and on the test images.

    Args:
        held_out: in random order, of images the network was not trained on.
        test: nothing is chosen on these.
        flops: float64 [exits], multiply-adds to leave at each exit.
    """
    temperatures = temperatures_of(held_out)
    scored = score(held_out, temperatures, flops)
    solved = {name: procedure(scored) for name, procedure in PROCEDURES.items()}
    front = next(iter(solved.values()))
    points = {share: best_within(front, share * float(flops[-1])) for share in BUDGETS}
    curves = {name: crossfit(scored, procedure) for name, procedure in PROCEDURES.items()}
    sets = [_assessed("held-out", held_out, scored, curves, _cross_fitted(points, curves))]
    if test is not None:
        scored = score(test, temperatures, flops)
        curves = {name: measure(points, scored) for name, points in solved.items()}
        sets.append(_assessed("test", test, scored, curves, _measured(points, scored)))
    return Assessment(temperatures, tuple(sets))


def _assessed(
    name: str,
    given: Answers,
    scored: Scored,
    curves: Mapping[str, Curve],
    budgets: Mapping[float, Spent],
) -> Assessed:
    summaries = {procedure: summarize(curve, scored) for procedure, curve in curves.items()}
    exits = tuple(_quality(given.logits[k], scored, k) for k in range(len(scored.flops)))
    return Assessed(name, scored.images, exits, curves, summaries, budgets)


def _quality(logits: Tensor, scored: Scored, k: int) -> ExitQuality:
    """Exit k (from 0) on a set; logits [N, classes] are its own."""
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
) -> dict[float, Spent]:
    """Accuracies from the first procedure's curve, for the points' own are too good."""
    curve = next(iter(curves.values()))
    return {
        share: Spent(
            point.mean_flops,
            accuracy_at(curve, point.mean_flops) or float(curve.accuracy[0]),
            point.shares,
        )
        for share, point in points.items()
    }


def _measured(points: Mapping[float, Tradeoff], scored: Scored) -> dict[float, Spent]:
    spent = {}
    for share, point in points.items():
        seen = apply_thresholds(scored, np.array(point.thresholds))
        spent[share] = Spent(seen.mean_flops, seen.accuracy, seen.shares)
    return spent
