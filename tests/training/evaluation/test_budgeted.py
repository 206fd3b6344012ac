import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.evaluation.test_thresholds import overconfident
from tests.training.scored import scored_sets
from training.evaluation.budgeted import (
    PROCEDURES,
    Curve,
    Procedure,
    accuracy_at,
    area_under,
    crossfit,
    direct_optimum,
    flops_to_reach,
    folds,
    measure,
    paper_procedure,
    summarize,
)
from training.evaluation.evaluate import Scored
from training.evaluation.thresholds import best_within

curves = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 20)), min_size=1, max_size=8).map(
    lambda steps: Curve(
        np.cumsum([float(s) for s, _ in steps]), np.array([a / 20 for _, a in steps])
    )
)


@given(scored_sets())
def test_the_optimum_is_never_below_the_papers_procedure_on_the_same_images(scored: Scored) -> None:
    """At any budget, the comparison is between the best affordable points."""
    optimum, papers = direct_optimum(scored), paper_procedure(scored)
    for budget in (*(point.mean_flops for point in papers), 1e9):
        assert best_within(optimum, budget).accuracy >= best_within(papers, budget).accuracy


def test_the_paper_has_40_ratios_from_a_twentieth_to_2() -> None:
    scored = overconfident(4000, 3)
    points = paper_procedure(scored)[1:-1]
    assert len(points) == 40
    for k, point in enumerate(points, 1):
        q = (k / 20) ** np.arange(1, 4)
        assert point.shares == pytest.approx(q / q.sum(), abs=1 / 1000)


@given(curves, st.integers(0, 21))
def test_flops_to_reach_is_the_first_point_with_the_accuracy(curve: Curve, level: int) -> None:
    accuracy, found = level / 20, flops_to_reach(curve, level / 20)
    grid = np.linspace(curve.flops[0], curve.flops[-1] + 1, 2001)
    reached = np.interp(grid, curve.flops, curve.accuracy) >= accuracy
    if found is None:
        assert not reached.any()
        return
    assert accuracy_at(curve, found) == pytest.approx(
        max(accuracy, curve.accuracy[0]), abs=1e-9
    ) or (found == curve.flops[0])
    assert not reached[grid < found - 1e-9].any()


def test_a_curve_by_hand() -> None:
    curve = Curve(np.array([10.0, 20.0, 40.0]), np.array([0.5, 0.7, 0.6]))
    assert accuracy_at(curve, 9.9) is None
    assert accuracy_at(curve, 15) == pytest.approx(0.6)
    assert accuracy_at(curve, 100) == 0.6, "a budget does not have to be spent"
    assert flops_to_reach(curve, 0.6) == pytest.approx(15)
    assert flops_to_reach(curve, 0.1) == 10
    assert flops_to_reach(curve, 0.71) is None
    assert area_under(curve, 10, 40) == pytest.approx((0.6 * 10 + 0.65 * 20) / 30)
    assert area_under(curve, 10, 60) == pytest.approx((0.6 * 10 + 0.65 * 20 + 0.6 * 20) / 50)


@given(curves)
def test_the_area_is_between_the_lowest_and_the_highest_accuracy(curve: Curve) -> None:
    area = area_under(curve, float(curve.flops[0]), float(curve.flops[-1]))
    assert curve.accuracy.min() - 1e-9 <= area <= curve.accuracy.max() + 1e-9


def test_every_image_is_in_one_fold_and_not_among_the_others() -> None:
    scored = overconfident(23, 2)
    assert sum(part.images for _, part in folds(scored)) == 23
    assert all(part.images + others.images == 23 for others, part in folds(scored))


@pytest.mark.parametrize("procedure", PROCEDURES.values(), ids=PROCEDURES.keys())
def test_a_cross_fitted_curve_predicts_that_of_new_images(procedure: Procedure) -> None:
    new = overconfident(50_000, 3, seed=99)
    scored = overconfident(3000, 3)
    fitted, true = crossfit(scored, procedure), measure(procedure(scored), new)
    for share in (0.3, 0.5, 0.9):
        flops = share * scored.flops[-1]
        # about 3 standard errors of 3,000 images
        assert accuracy_at(fitted, flops) == pytest.approx(accuracy_at(true, flops), abs=0.03)


def test_each_exit_alone_reaches_full_depths_accuracy_at_its_flops() -> None:
    scored = overconfident(3000, 3)
    summary = summarize(measure(PROCEDURES["each exit alone"](scored), scored), scored)
    first, second = scored.right[:2].mean(axis=1)
    # a quarter, 25 of 100, is a third of the way from 10 to 55
    assert summary.accuracies[0] == pytest.approx(first + (second - first) / 3)
    assert summary.accuracies[-1] == scored.right[-1].mean()
    full, nearly = summary.flops[:2]
    assert full == scored.flops[-1]
    assert full is not None
    assert nearly is not None
    assert nearly < full
