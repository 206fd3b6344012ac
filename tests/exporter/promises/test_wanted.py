"""The images that promises take, and their two parts."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.promises.wanted import Wanted, divide, images_wanted
from offramp.bundle.betting import images_needed_for_gap
from offramp.bundle.binomial import images_needed
from offramp.bundle.promises import Level

LEVELS = tuple(Level("agreement", epsilon) for epsilon in (0.01, 0.02, 0.05))
WANTED = Wanted(LEVELS)


def test_the_parts_are_disjoint_and_the_same_each_time() -> None:
    for images in (0, 1, 7, 100, 1200, 5000):
        parts = divide(images, 3)
        together = np.concatenate([parts.tuned, parts.certified])
        assert sorted(together.tolist()) == list(range(images))
        assert (divide(images, 3).tuned == parts.tuned).all()
    assert (len(divide(5000, 0).tuned), len(divide(600, 0).tuned)) == (1000, 300)


@pytest.mark.parametrize("level", [*LEVELS, Level("agreement", 0.001)])
def test_the_stated_number_of_images_is_the_fewest_that_can_certify(level: Level) -> None:
    fewest = images_wanted(WANTED, level)
    enough = images_needed(level.epsilon, WANTED.level)
    assert len(divide(fewest, 0).certified) >= enough > len(divide(fewest - 1, 0).certified)


def test_a_promise_of_accuracy_takes_the_images_of_its_own_test() -> None:
    fewest = images_wanted(WANTED, Level("accuracy", 0.02))
    enough = images_needed_for_gap(0.02, WANTED.level)
    assert len(divide(fewest, 0).certified) >= enough > len(divide(fewest - 1, 0).certified)
