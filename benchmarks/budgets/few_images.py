"""Budgets that are solved on few images, against leaving at one exit of equal cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.progress import track

from benchmarks.budgets.population import Answers
from exporter.budgets import solve_budgets
from training.evaluation.budgeted import direct_optimum
from training.evaluation.evaluate import Floats, Scored, apply_thresholds
from training.evaluation.thresholds import best_within, each_exit

FEW = (40, 80, 300, 1000)


def _drawn(images: Answers, count: int, rng: np.random.Generator) -> Floats:
    """Draw so many images to solve on, and return the gains on the others, [2, exits - 1]."""
    order = rng.permutation(images.scored.images)
    return _gains(images.rows(order[:count]), images.rows(order[count:]).scored)


def few_images(images: Answers, draws: int) -> Iterator[dict[str, float]]:
    """Yield the accuracy at the flops of each exit, less that of the exit, by number of images.

    It is in percent, with its standard error, for the path and for the direct optimum.
    """
    rng = np.random.default_rng(0)
    for count in FEW:
        gains = np.zeros((draws, 2, len(images.scored.flops) - 1))
        for draw in track(range(draws), f"{count} images", transient=True):
            gains[draw] = _drawn(images, count, rng)
        means, errors = 100 * gains.mean(axis=0), 100 * gains.std(axis=0) / draws**0.5
        for k in range(gains.shape[2]):
            yield {
                "images": count,
                "exit": k + 1,
                "path": round(float(means[0, k]), 2),
                "error": round(float(errors[0, k]), 2),
                "direct optimum": round(float(means[1, k]), 2),
                "its error": round(float(errors[1, k]), 2),
            }


def _gains(few: Answers, others: Scored) -> Floats:
    """Return the gain over each early exit, [path and direct optimum, exits - 1]."""
    curve, direct = solve_budgets(few.scored, few.agrees)[1], direct_optimum(few.scored)
    rows = []
    for exit_ in each_exit(others)[:-1]:
        limit = exit_.mean_flops * (1 + 1e-9)
        affordable = [point for point in curve if point.mean_flops.value <= limit]
        chosen = affordable[-1].thresholds, best_within(direct, limit).thresholds
        found = (apply_thresholds(others, np.array(thresholds)) for thresholds in chosen)
        rows.append([each.accuracy - exit_.accuracy for each in found])
    return np.array(rows).T
