from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize  # type: ignore[import-untyped] # has no types

from exporter.promises.path import POINTS, fit_logistic, solve_path
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


@settings(max_examples=40)
@example(images=2, seed=672)  # a slope of nearly 0
@given(st.integers(1, 300), st.integers(0, 1000))
def test_thresholds_never_rise_along_the_path(images: int, seed: int) -> None:
    path = solve_path(scored(images, seed))
    assert path.thresholds.shape == (POINTS + 1, 3)
    assert (np.diff(path.thresholds, axis=0) <= 0).all()
    assert (np.diff(path.risks) > 0).all()
    assert (path.thresholds[:, -1] == 0).all()


def test_a_path_goes_from_full_depth_to_the_first_exit() -> None:
    images = scored(500, 0)
    path = solve_path(images)
    shares = [apply_thresholds(images, thresholds).shares for thresholds in path.thresholds]
    assert [shares[0], shares[-1]] == [(0, 0, 1), (1, 0, 0)]
    assert [path.risks[0], path.risks[-1]] == [0, pytest.approx(1)]


def test_images_leave_where_the_probability_of_a_disagreement_is_the_risk() -> None:
    images = scored(50_000, 1)  # agrees as often as the confidence says
    path = solve_path(images)
    for risk, thresholds in zip(path.risks, path.thresholds, strict=True):
        if 0.05 < risk < 0.6:
            assert thresholds[:2] == pytest.approx(1 - risk, abs=0.02)


def test_cheaper_points_disagree_more_often() -> None:
    images = replace(scored(5000, 2), heads=None)  # a head that few images leave at costs more
    points = [apply_thresholds(images, thresholds) for thresholds in solve_path(images).thresholds]
    flops = [point.mean_flops for point in points]
    assert flops == sorted(flops, reverse=True)
    assert points[0].accuracy == 1
    assert points[-1].accuracy < 0.9


def test_no_image_leaves_early_where_confidence_says_nothing() -> None:
    images = scored(400, 3)
    images.right[0] = images.confidence[0] < 0.8  # the wrong way round
    path = solve_path(images)
    assert (path.thresholds[:-1, 0] == NEVER).all()
    assert path.thresholds[-1, 0] == 0


@pytest.mark.parametrize("images", [0, 1, 2, 5])
@pytest.mark.parametrize("agrees", [False, True])
def test_few_images_that_are_all_alike_have_a_path(images: int, agrees: bool) -> None:
    confidence = np.full((2, images), 0.7, np.float32)
    right = np.full((2, images), agrees)
    path = solve_path(Scored(confidence, right, FLOPS[:2]))
    assert np.isfinite(path.thresholds).all()
    assert (np.diff(path.thresholds, axis=0) <= 0).all()


def test_the_logistic_fit_is_that_of_a_general_optimizer() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(1, 3, 400)
    y = rng.random(400) < 1 / (1 + np.exp(-(0.5 + 0.8 * x)))

    def loss(weights: np.ndarray) -> float:
        scaled = np.append((x - x.mean()) / x.std(), [0, 0])
        signs = np.where(np.append(y, [True, False]), 1, -1)
        fit = np.logaddexp(0, -signs * (weights[0] + weights[1] * scaled)).sum()
        return float(fit + 0.5e-3 * len(scaled) * weights[1] ** 2)

    expected = minimize(loss, np.zeros(2), tol=1e-12).x
    offset, slope = fit_logistic(x, y)
    assert slope == pytest.approx(expected[1] / x.std(), rel=1e-4)
    assert offset == pytest.approx(expected[0] - expected[1] * x.mean() / x.std(), rel=1e-4)
