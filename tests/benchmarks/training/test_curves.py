import numpy as np
import pytest

from benchmarks.training.budgeted import columns, mean_and_deviation
from benchmarks.training.curves import margin, measured, nowhere_below, solve
from benchmarks.training.predictions import Trained
from tests.training.evaluation.test_thresholds import overconfident
from training.evaluation.budgeted import BUDGETS, direct_optimum, paper_procedure
from training.evaluation.evaluate import Scored, apply_thresholds
from training.evaluation.thresholds import best_within


def worse(scored: Scored, share: float, seed: int) -> Scored:
    """Return the same predictions with this share of the correct ones made wrong."""
    flipped = np.random.default_rng(seed).uniform(size=scored.right.shape) < share
    return Scored(scored.confidence, scored.right & ~flipped, scored.flops)


def test_a_better_row_reaches_the_baselines_best_earlier_and_a_worse_row_never() -> None:
    held_out, test = overconfident(800, 4), overconfident(800, 4, seed=1)
    joint = solve(Trained("joint", "seed0", worse(held_out, 0.1, 0), worse(test, 0.1, 1)))
    better = measured(solve(Trained("dfs", "seed0", held_out, test)), joint)
    same = measured(joint, joint)
    bad = Trained("x", "seed0", worse(held_out, 0.3, 2), worse(test, 0.3, 3))
    poor = measured(solve(bad), joint)
    assert 0 < better.to_best[0] < 0.9
    assert same.to_best[0] == 1
    assert np.isnan(poor.to_best).all()
    assert mean_and_deviation(columns([better, poor])["flops / full"]) == "never in 1/2"
    assert all(run.solved.holds for run in (better, same, poor))


def test_the_best_point_is_chosen_on_held_out_images() -> None:
    """It is not the best point of the test split."""
    run = Trained("joint", "seed0", overconfident(300, 4), overconfident(300, 4, seed=1))
    solved = solve(run)
    chosen = best_within(direct_optimum(run.held_out), np.inf)
    assert solved.best == apply_thresholds(run.test, np.array(chosen.thresholds)).accuracy
    assert solved.best < solved.curve.accuracy.max()


def test_the_given_procedure_is_measured() -> None:
    run = Trained("joint", "seed0", overconfident(300, 4), overconfident(300, 4, seed=1))
    curve = solve(run, paper_procedure).curve
    assert len(curve.flops) == len(paper_procedure(run.held_out))


def test_ours_is_nowhere_below_on_the_images_it_was_solved_on_but_can_be_on_others() -> None:
    held_out = overconfident(300, 4)
    ours, papers = direct_optimum(held_out), paper_procedure(held_out)
    assert nowhere_below(ours, papers)
    assert not nowhere_below(ours[:1], papers)
    differences = margin(held_out)
    assert differences.shape == (BUDGETS,)
    assert differences.min() < 0
    assert differences == pytest.approx(margin(held_out))
