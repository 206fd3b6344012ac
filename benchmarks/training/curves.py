"""Compute and compare budgeted curves of trained networks, with thresholds from held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.training.predictions import Trained
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
    """A run with thresholds solved on its held-out images.

    Args:
        run: Predictions of the run.
        curve: Curve of the thresholds on the test split.
        best: Test accuracy of the thresholds that are best on the held-out images.
        holds: True if our points are nowhere below the paper's on the held-out images.
        margin: Accuracy of our points minus the paper's, both cross-fitted on the held-out
            images, at BUDGETS mean flops from the first exit's to full depth's.
    """

    run: Trained
    curve: Curve
    best: float
    holds: bool
    margin: Floats


def solve(run: Trained, procedure: Procedure = direct_optimum) -> Solved:
    """Solve the thresholds of a run on its held-out images and measure them on its test split."""
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
    """Return True if each of the paper's points has one of ours at least as good and cheap."""
    return all(best_within(ours, p.mean_flops).accuracy >= p.accuracy for p in papers)


def margin(held_out: Scored) -> Floats:
    """Return the cross-fitted margin over the paper's procedure, [BUDGETS]. See Solved."""
    grid = np.linspace(held_out.flops[0], held_out.flops[-1], BUDGETS)
    ours, papers = (
        np.interp(grid, curve.flops, curve.accuracy)
        for curve in (crossfit(held_out, direct_optimum), crossfit(held_out, paper_procedure))
    )
    return np.asarray(ours - papers)


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of a run.

    Args:
        solved: The run with its thresholds.
        accuracies: Test accuracy at shares of full depth's flops, NaN below the first exit's.
        area: Mean accuracy of the curve.
        to_best: Mean flops that reach the baseline's best accuracy, as a share of the flops that
            the baseline needs and of full depth's. NaN if the curve never reaches it.
    """

    solved: Solved
    accuracies: tuple[float, ...]
    area: float
    to_best: tuple[float, float]


def measured(own: Solved, baseline: Solved) -> Measured:
    """Return the figures of a run compared with its baseline.

    Raises:
        DataError: The flops of their exits differ, so their networks differ.
    """
    flops = own.run.test.flops
    if not np.array_equal(flops, baseline.run.test.flops):
        names = " and ".join(f"{run.row}/{run.seed}" for run in (own.run, baseline.run))
        raise DataError(f"--runs: {names} have different networks: the flops of their exits differ")
    reached, needed = (flops_to_reach(each.curve, baseline.best) for each in (own, baseline))
    assert needed is not None
    summary = summarize(own.curve, own.run.test)
    return Measured(
        own,
        tuple(np.nan if a is None else a for a in summary.accuracies),
        summary.area,
        (np.nan, np.nan) if reached is None else (reached / needed, reached / flops[-1]),
    )
