"""Budgeted curves of trained networks, thresholds from held-out images, one beside another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.training.answers import Trained
from training.errors import DataError
from training.evaluation.budgeted import (
    BUDGETS,
    Curve,
    Procedure,
    crossfit,
    direct_optimum,
    flops_to_reach,
    measure,
    paper_procedure,
    summarize,
)
from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds
from training.evaluation.thresholds import best_within


@dataclass(frozen=True, slots=True)
class Solved:
    """A run with thresholds from its held-out images.

    Args:
        curve: theirs on the test split.
        best: test accuracy of those that are best on the held-out images.
        holds: whether on the held-out images our points are nowhere below the paper's.
        margin: accuracy of our points above the paper's, both cross-fitted on the held-out
            images, at BUDGETS mean flops from the first exit's to full depth's.
    """

    run: Trained
    curve: Curve
    best: float
    holds: bool
    margin: Floats


def solve(run: Trained, procedure: Procedure = direct_optimum) -> Solved:
    """Thresholds of one run, which is all that needs its held-out images."""
    ours, papers = direct_optimum(run.held_out), paper_procedure(run.held_out)
    points = ours if procedure is direct_optimum else procedure(run.held_out)
    best = np.array(best_within(points, np.inf).thresholds)
    return Solved(
        run,
        measure(points, run.test),
        apply_thresholds(run.test, best).accuracy,
        nowhere_below(ours, papers),
        margin(run.held_out),
    )


def nowhere_below(ours: Sequence[Tradeoff], papers: Sequence[Tradeoff]) -> bool:
    """Whether every point of the paper's has one of ours as good that is no dearer."""
    return all(best_within(ours, p.mean_flops).accuracy >= p.accuracy for p in papers)


def margin(held_out: Scored) -> Floats:
    """See Solved."""
    grid = np.linspace(held_out.flops[0], held_out.flops[-1], BUDGETS)
    ours, papers = (
        np.interp(grid, curve.flops, curve.accuracy)
        for curve in (crossfit(held_out, direct_optimum), crossfit(held_out, paper_procedure))
    )
    return np.asarray(ours - papers)


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's figures.

    Args:
        to_best: mean flops to reach the best of the run it is compared with, as shares of what
            that one needs for it and of full depth's; NaN where the curve never does.
    """

    solved: Solved
    accuracies: tuple[float, ...]
    area: float
    to_best: tuple[float, float]


def measured(own: Solved, other: Solved) -> Measured:
    """The figures of a run beside the one it is compared with.

    Raises:
        DataError: they differ in flops, and so in their networks.
    """
    flops = own.run.test.flops
    if not np.array_equal(flops, other.run.test.flops):
        names = " and ".join(f"{run.row}/{run.seed}" for run in (own.run, other.run))
        raise DataError(f"--runs: {names} are not of one network: their exits differ in flops")
    reached, needed = (flops_to_reach(one.curve, other.best) for one in (own, other))
    assert needed is not None
    summary = summarize(own.curve, own.run.test)
    return Measured(
        own,
        tuple(np.nan if a is None else a for a in summary.accuracies),
        summary.area,
        (np.nan, np.nan) if reached is None else (reached / needed, reached / flops[-1]),
    )
