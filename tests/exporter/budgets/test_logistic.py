from __future__ import annotations

import numpy as np
import pytest

from exporter.budgets.logistic import fit_logistic, logistic, logit


def test_the_fit_is_that_of_a_general_optimizer() -> None:
    from scipy.optimize import minimize  # late: takes seconds

    rng = np.random.default_rng(4)
    x = rng.normal(1, 3, 400)
    columns = np.stack([x, x * x])
    y = rng.random(400) < logistic(0.5 + 0.8 * x - 0.05 * x * x)

    def loss(weights: np.ndarray) -> float:
        mean, spread = columns.mean(axis=1, keepdims=True), columns.std(axis=1, keepdims=True)
        scaled = np.hstack([(columns - mean) / spread, np.zeros((2, 2))])
        signs = np.where(np.append(y, [True, False]), 1, -1)
        fit = np.logaddexp(0, -signs * (weights[0] + weights[1:] @ scaled)).sum()
        return float(fit + 0.5e-4 * scaled.shape[1] * (weights[1:] ** 2).sum())

    expected = minimize(loss, np.zeros(3), tol=1e-12).x
    slopes = expected[1:] / columns.std(axis=1)
    offset = expected[0] - slopes @ columns.mean(axis=1)
    assert fit_logistic(columns, y) == pytest.approx(np.array([offset, *slopes]), rel=1e-3)


@pytest.mark.parametrize("images", [0, 1, 2, 5])
@pytest.mark.parametrize("right", [False, True])
def test_few_images_that_are_all_alike_have_a_finite_fit(images: int, right: bool) -> None:
    columns = np.full((2, images), 0.7)
    assert np.isfinite(fit_logistic(columns, np.full(images, right))).all()


@pytest.mark.parametrize("value", [1.0, 0.9999, 0.9, 1 / 3, 1e-7])
@pytest.mark.parametrize("images", [100, 300, 1000, 5000])
def test_a_constant_column_says_nothing_but_the_share(value: float, images: int) -> None:
    """The standard deviation of equal numbers is not 0 but their rounding."""
    x = logit(np.full(images, value, np.float32))
    y = np.arange(images) < 0.3 * images
    offset, *slopes = fit_logistic(np.stack([x, x * x]), y)
    estimated = logistic(offset + slopes @ np.stack([x[:1], x[:1] ** 2]))
    assert estimated == pytest.approx([0.3], abs=0.01)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_fit_does_not_depend_on_the_unit_of_a_column(scale: float) -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, 500)
    y = rng.random(500) < logistic(0.3 + x)
    offset, slope = fit_logistic(x[None], y)
    assert fit_logistic(scale * x[None], y) == pytest.approx(np.array([offset, slope / scale]))


def test_the_logit_is_finite_and_the_inverse_of_the_logistic_function() -> None:
    shares = np.array([0.0, 1e-6, 0.3, 0.5, 1 - 1e-6, 1.0])
    assert np.isfinite(logit(shares)).all()
    assert logistic(logit(shares)) == pytest.approx(shares, abs=2e-7)
    assert logistic(np.array([-1e9, 1e9])) == pytest.approx([0, 1])
