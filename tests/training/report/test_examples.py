import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.images import Images
from training.evaluation.evaluate import Scored, exits_taken
from training.report.examples import (
    AT_EXIT,
    SHOWN,
    leaving_images,
    photo_groups,
    wrong_predictions,
)


def scored(seed: int, exits: int, images: int) -> Scored:
    rng = np.random.default_rng(seed)
    confidence = rng.random((exits, images)).astype(np.float32)
    return Scored(confidence, rng.random((exits, images)) < 0.6, np.arange(1.0, exits + 1))


drawn = st.builds(scored, st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 80))


@given(drawn)
def test_wrong_predictions_are_wrong_and_in_order_of_confidence(given_scores: Scored) -> None:
    chosen = wrong_predictions(given_scores)
    assert [each.exit for each in chosen] == list(range(1, len(given_scores.flops) + 1))
    for k, each in enumerate(chosen):
        assert each.total == int((~given_scores.right[k]).sum())
        assert each.right == 0
        assert not given_scores.right[k, each.images].any()
        confidence = given_scores.confidence[k, each.images]
        assert np.all(np.diff(confidence) <= 0)
        assert len(set(each.images.tolist())) == len(each.images) <= min(AT_EXIT, each.total)


@given(drawn, st.floats(0, 1.2))
def test_every_image_leaves_at_one_exit_and_is_shown_there(
    given_scores: Scored, threshold: float
) -> None:
    thresholds = np.full(len(given_scores.flops), threshold)
    thresholds[-1] = 0
    chosen = leaving_images(given_scores, thresholds)
    assert sum(each.total for each in chosen) == given_scores.images
    taken = exits_taken(given_scores.confidence, thresholds)
    for each in chosen:
        assert np.all(taken[each.images] == each.exit - 1)
        assert each.right <= each.total


@given(st.integers(0, 10_000), st.integers(1, 200))
def test_the_number_of_photos_is_bounded_for_any_number_of_exits(seed: int, exits: int) -> None:
    given_scores = scored(seed, exits, 40)
    both = [
        *wrong_predictions(given_scores),
        *leaving_images(given_scores, np.linspace(1, 0, exits)),
    ]
    assert sum(len(each.images) for each in both) <= SHOWN


def test_exit_one_shows_easy_images_and_the_last_shows_hard_ones() -> None:
    confidence = np.array([[0.9, 0.95, 0.3, 0.2, 0.1], [0.5, 0.5, 0.8, 0.7, 0.9]], np.float32)
    right = np.array([[True, True, False, False, False], [True, True, True, False, True]])
    easy, hard = leaving_images(Scored(confidence, right, np.array([1.0, 2.0])), np.array([0.8, 0]))
    assert (easy.images.tolist(), easy.total, easy.right) == ([1, 0], 2, 2)
    assert (hard.images.tolist(), hard.total, hard.right) == ([4, 3, 2], 3, 2)


def test_photos_show_the_prediction_and_confidence_of_their_exit() -> None:
    confidence = np.array([[0.75, 0.5], [0.25, 0.5]], np.float32)
    predicted = np.array([[1, 0], [0, 0]])
    targets = np.array([0, 0])
    given_scores = Scored(confidence, predicted == targets, np.array([1.0, 2.0]))
    images = Images(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.from_numpy(targets))
    chosen = wrong_predictions(given_scores)
    first, last = photo_groups(chosen, images, ("a", "b"), predicted, given_scores)
    assert [(p.true, p.predicted, p.confidence) for p in first.photos] == [("a", "b", 0.75)]
    assert (last.exit, last.total, last.photos) == (2, 0, ())
