from __future__ import annotations

import numpy as np
import pytest

from serving.engine.latency import LONGEST, ImageTime


def test_it_starts_with_the_time_at_warm_up() -> None:
    assert ImageTime(0.25).seconds == 0.25


def test_an_image_costs_its_part_of_the_batch() -> None:
    time = ImageTime(1.0)
    for _ in range(200):
        time.add(8, 4.0)
    assert time.seconds == pytest.approx(0.5, rel=0.02)


def test_batches_count_by_their_images() -> None:
    time, rng = ImageTime(1.0), np.random.default_rng(0)
    for images in rng.integers(1, 5, 4000).tolist():
        time.add(images, 1.0 + 0.5 * images)
    batches, images = 1.0 + 0.5 * 2.5, 2.5
    assert time.seconds == pytest.approx(batches / images, rel=0.1)


def test_the_first_batches_count_as_much_as_the_time_at_warm_up() -> None:
    time = ImageTime(1.0)
    time.add(1, 2.0)
    assert time.seconds == pytest.approx(1.5)
    time.add(1, 3.0)
    assert time.seconds == pytest.approx(2.0)


def test_one_pause_of_the_machine_changes_little() -> None:
    time = ImageTime(1.0)
    for _ in range(200):
        time.add(1, 1.0)
    time.add(1, 1000.0)
    assert time.seconds <= 1 + 0.03 * LONGEST


def test_a_change_that_stays_is_followed_within_a_hundred_batches() -> None:
    time = ImageTime(1.0)
    for _ in range(1000):
        time.add(1, 1.0)
    for _ in range(100):
        time.add(1, 2.0)
    assert time.seconds == pytest.approx(2.0, rel=0.03)


def test_a_time_of_0_can_rise() -> None:
    time = ImageTime(0.0)
    time.add(1, 1.0)
    assert time.seconds == 0.5
