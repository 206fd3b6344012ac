"""Intervals, compared with those of training and the exporter."""

from __future__ import annotations

import pytest

from exporter.budgets import estimate_mean, estimate_share
from offramp.evaluation.intervals import predicted_mean, predicted_share, wilson
from offramp.evaluation.results import Interval
from training.evaluation.calibration_error import wilson as wilson_of_training


@pytest.mark.parametrize(("share", "images"), [(0.0, 10), (0.9, 500), (1.0, 77)])
def test_wilson_intervals_are_those_of_training(share: float, images: int) -> None:
    interval = wilson(share, images)
    low, high = wilson_of_training(share, images)
    assert (interval.low, interval.high) == pytest.approx((max(0, low), min(1, high)), abs=1e-12)


@pytest.mark.parametrize(("share", "images", "new"), [(0.0, 50, 50), (0.9, 500, 60), (1.0, 9, 99)])
def test_predicted_shares_are_those_of_the_exporter(share: float, images: int, new: int) -> None:
    expected = estimate_share(share, images, new)
    assert predicted_share(share, images, new) == Interval(expected.low, expected.high)


@pytest.mark.parametrize(("images", "new"), [(50, 50), (500, 60), (9, 99)])
def test_predicted_means_are_those_of_the_exporter(images: int, new: int) -> None:
    stated, expected = estimate_mean(100.0, 7.0, images), estimate_mean(100.0, 7.0, images, new)
    predicted = predicted_mean(stated, images, new)
    assert (predicted.low, predicted.high) == pytest.approx((expected.low, expected.high))
