"""The time left of a run."""

import io

import pytest
import torch
from rich.console import Console

from tests.training.samples import tiny_progress
from training.data.images import Images
from training.fit.checkpoint import Epoch, Progress
from training.report.remaining import seconds_left, text_of, track_epoch


def run_with(finished: int, **recipe: object) -> Progress:
    epochs = tuple(
        Epoch(number=n, loss=1, accuracies=(0.5,), seconds=10) for n in range(1, finished + 1)
    )
    return tiny_progress(epochs=4, **recipe).model_copy(update={"epochs": epochs})


@pytest.mark.parametrize(
    ("finished", "done", "seconds", "expected"),
    [(0, 0, 3, None), (0, 0.5, 4, 28), (1, 0, 0, 30), (2, 0.5, 5, 15), (4, 0, 0, 0)],
)
def test_the_time_left_is_in_proportion_to_the_time_so_far(
    finished: int, done: float, seconds: float, expected: float | None
) -> None:
    assert seconds_left(run_with(finished), done, seconds) == expected


def test_epochs_of_small_images_are_a_smaller_part_of_the_run() -> None:
    """Two epochs at half the size cost 1/4 each, so the run costs 2.5 epochs."""
    small = {"small_size": 16, "small_epochs": 2}
    assert seconds_left(run_with(1, **small)) == pytest.approx(10 * 2.25 / 0.25)
    assert seconds_left(run_with(2, **small)) == pytest.approx(20 * 2 / 0.5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (40.2, "40 s left"), (720, "12 min left"), (11100, "3 h 05 min left")],
)
def test_times_are_short_texts(seconds: float | None, text: str) -> None:
    assert text_of(seconds) == text


def test_the_bar_passes_all_batches_and_shows_the_time_left() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=100)
    batch = Images(torch.zeros(1, 2, 2, 3), torch.zeros(1))
    found = list(track_epoch([batch] * 3, 3, run_with(1), console))
    assert len(found) == 3
    assert "epoch 2/4" in shown.getvalue()
    assert " left" in shown.getvalue()
