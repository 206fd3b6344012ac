from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.budgets.path import POINTS, RISKS, solve_path
from training.evaluation.evaluate import Scored, apply_thresholds
from training.evaluation.thresholds import NEVER

FLOPS = np.array([1e6, 3e6, 7e6])


def scored(images: int, seed: int, exits: int = 3) -> Scored:
    """Return exits that agree with the last in a share of the images that their confidence says."""
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, (exits, images)).astype(np.float32)
    agrees = rng.random((exits, images)) < confidence
    agrees[-1] = True
    return Scored(confidence, agrees, FLOPS[:exits], FLOPS[:exits] / 10)


@settings(max_examples=15)
@example(images=2, seed=672)  # a slope of nearly 0
@given(st.integers(0, 300), st.integers(0, 1000))
def test_thresholds_never_rise_along_the_path(images: int, seed: int) -> None:
    thresholds = solve_path(scored(images, seed)).thresholds()
    assert thresholds.shape == (POINTS + 1, 3)
    assert (np.diff(thresholds, axis=0) <= 0).all()
    assert (np.diff(RISKS) > 0).all()
    assert (thresholds[:, -1] == 0).all()


def test_a_path_goes_from_full_depth_to_the_first_exit() -> None:
    images = scored(500, 0)
    thresholds = solve_path(images).thresholds()
    shares = [apply_thresholds(images, each).shares for each in thresholds]
    assert [shares[0], shares[-1]] == [(0, 0, 1), (1, 0, 0)]
    assert [RISKS[0], RISKS[-1]] == [0, pytest.approx(1)]


def test_a_point_between_two_risks_lies_between_their_thresholds() -> None:
    path = solve_path(scored(500, 1))
    low, middle, high = path.thresholds(np.array([0.1, 0.11, 0.12]))
    assert (low[:2] > middle[:2]).all()
    assert (middle[:2] > high[:2]).all()


def test_the_loss_at_the_threshold_is_in_proportion_to_the_cost_of_going_on() -> None:
    path = solve_path(scored(50_000, 1))  # agrees as often as the confidence says
    # exit 2 costs 4 M more, and exit 1 costs 2 M more and then a third of the 4 M
    share = (2 + 4 / 3) / 4
    for risk, thresholds in zip(RISKS, path.thresholds(), strict=True):
        if 0.05 < risk < 0.6:
            assert 1 - thresholds[:2] == pytest.approx([risk * share, risk], abs=0.02)


def test_going_on_can_be_priced_in_milliseconds() -> None:
    images = scored(5000, 1)
    dear_middle = solve_path(replace(images, prices=np.array([1.0, 9.0, 10.0])))
    dear_end = solve_path(replace(images, prices=np.array([1.0, 2.0, 10.0])))
    risks = np.array([0.2])
    assert dear_middle.thresholds(risks)[0, 0] < dear_end.thresholds(risks)[0, 0]
    assert dear_middle.thresholds(risks)[0, 1] > dear_end.thresholds(risks)[0, 1]
    same = solve_path(replace(images, prices=FLOPS / 1e6)).thresholds()
    np.testing.assert_allclose(same, solve_path(images).thresholds())


def test_cheaper_points_disagree_more_often() -> None:
    images = replace(scored(5000, 2), heads=None)  # a head that few images leave at costs more
    points = [apply_thresholds(images, each) for each in solve_path(images).thresholds()]
    flops = [point.mean_flops for point in points]
    assert flops == sorted(flops, reverse=True)
    assert points[0].accuracy == 1
    assert points[-1].accuracy < 0.9


def test_no_image_leaves_early_where_confidence_says_nothing() -> None:
    images = scored(400, 3)
    images.right[0] = images.confidence[0] < 0.8  # the wrong way round
    thresholds = solve_path(images).thresholds()
    mean = 1 - images.right[0].mean()
    closed = thresholds[:, 0] == NEVER
    first = np.searchsorted(RISKS, 0.8 * mean)  # `mean` is expected of all its images
    assert closed[:first].all()
    assert set(thresholds[~closed, 0].tolist()) == {0}


def test_for_accuracy_an_exit_that_is_better_than_full_depth_costs_nothing() -> None:
    images = scored(4000, 4)
    images.right[-1] = np.random.default_rng(0).random(4000) < 0.6  # exit 1 is right on 80 %
    thresholds = solve_path(images).thresholds()
    assert thresholds[0, 0] == NEVER
    assert (thresholds[1:, 0] < 0.65).all()


@pytest.mark.parametrize("images", [0, 1, 2, 5])
@pytest.mark.parametrize("agrees", [False, True])
def test_few_images_that_are_all_alike_have_a_path(images: int, agrees: bool) -> None:
    confidence = np.full((2, images), 0.7, np.float32)
    right = np.full((2, images), agrees)
    thresholds = solve_path(Scored(confidence, right, FLOPS[:2])).thresholds()
    assert np.isfinite(thresholds).all()
    assert (np.diff(thresholds, axis=0) <= 0).all()


def test_a_network_with_one_exit_has_a_path() -> None:
    thresholds = solve_path(scored(10, 0, exits=1)).thresholds()
    assert (thresholds == 0).all()
