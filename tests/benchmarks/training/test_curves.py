import numpy as np
import pytest

from benchmarks.training.answers import Trained
from benchmarks.training.budgeted import columns, spread
from benchmarks.training.curves import margin, measured, nowhere_below, solve
from tests.training.evaluation.test_thresholds import overconfident
from training.evaluation.budgeted import BUDGETS, direct_optimum, paper_procedure
from training.evaluation.evaluate import Scored, apply_thresholds
from training.evaluation.thresholds import best_within


def worse(scored: Scored, share: float, seed: int) -> Scored:
    """The same, but that this share of the right predictions is wrong."""
    spoilt = np.random.default_rng(seed).uniform(size=scored.right.shape) < share
    return Scored(scored.confidence, scored.right & ~spoilt, scored.flops)


def test_a_better_row_reaches_the_others_best_earlier_and_a_worse_one_never() -> None:
    held_out, test = overconfident(800, 4), overconfident(800, 4, seed=1)
    joint = solve(Trained("joint", "seed0", worse(held_out, 0.1, 0), worse(test, 0.1, 1)))
    better = measured(solve(Trained("dfs", "seed0", held_out, test)), joint)
    same = measured(joint, joint)
    spoilt = Trained("x", "seed0", worse(held_out, 0.3, 2), worse(test, 0.3, 3))
    poor = measured(solve(spoilt), joint)
    assert 0 < better.to_best[0] < 0.9
    assert same.to_best[0] == 1
    assert np.isnan(poor.to_best).all()
    assert spread(columns([better, poor])["flops / full"]) == "never in 1/2"
    assert all(one.solved.holds for one in (better, same, poor))


def test_the_best_is_chosen_on_held_out_images() -> None:
    """And so is not the luckiest point of the test split."""
    run = Trained("joint", "seed0", overconfident(300, 4), overconfident(300, 4, seed=1))
    solved = solve(run)
    chosen = best_within(direct_optimum(run.held_out), np.inf)
    assert solved.best == apply_thresholds(run.test, np.array(chosen.thresholds)).accuracy
    assert solved.best < solved.curve.accuracy.max()


def test_a_procedure_of_ones_choice_is_what_is_measured() -> None:
    run = Trained("joint", "seed0", overconfident(300, 4), overconfident(300, 4, seed=1))
    curve = solve(run, paper_procedure).curve
    assert len(curve.flops) == len(paper_procedure(run.held_out))


def test_ours_is_nowhere_below_where_it_was_solved_and_may_be_on_other_images() -> None:
    held_out = overconfident(300, 4)
    ours, papers = direct_optimum(held_out), paper_procedure(held_out)
    assert nowhere_below(ours, papers)
    assert not nowhere_below(ours[:1], papers)
    differences = margin(held_out)
    assert differences.shape == (BUDGETS,)
    assert differences.min() < 0
    assert differences == pytest.approx(margin(held_out))
