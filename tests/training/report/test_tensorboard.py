from collections.abc import Sequence
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator,
)

from training.fit.checkpoint import Epoch
from training.report.tensorboard import EventLog


def logged(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


def steps_and_values(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in logged(folder).Scalars(name)]


def run(folder: Path, steps: Sequence[int], epochs: Sequence[int], offset: float = 0.0) -> None:
    """Log steps and epochs; an epoch has two steps."""
    with EventLog(folder) as log:
        for number in steps:
            log.step(number, torch.tensor(number + offset), 0.5)
            if number % 2 == 0 and number // 2 in epochs:
                log.epoch(
                    Epoch(
                        number=number // 2,
                        loss=number + offset,
                        accuracies=(0.25, 0.75),
                        seconds=1,
                        images_per_second=80,
                    )
                )


def test_steps_and_epochs_are_logged(tmp_path: Path) -> None:
    run(tmp_path, [1, 2, 3, 4], [1, 2])
    assert steps_and_values(tmp_path, "step/loss") == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert steps_and_values(tmp_path, "step/lr") == [(n, 0.5) for n in (1, 2, 3, 4)]
    assert steps_and_values(tmp_path, "epoch/loss") == [(2, 2), (4, 4)]
    assert steps_and_values(tmp_path, "epoch/images_per_second") == [(2, 80), (4, 80)]
    assert steps_and_values(tmp_path, "accuracy/exit_1") == [(2, 0.25), (4, 0.25)]
    assert steps_and_values(tmp_path, "accuracy/exit_2") == [(2, 0.75), (4, 0.75)]


def test_a_resumed_run_replaces_events_after_its_checkpoint(tmp_path: Path) -> None:
    run(tmp_path, [1, 2, 3], [1])  # stopped in epoch 2
    run(tmp_path, [3, 4], [2], offset=10)
    assert steps_and_values(tmp_path, "step/loss") == [(1, 1), (2, 2), (3, 13), (4, 14)]
    assert steps_and_values(tmp_path, "epoch/loss") == [(2, 2), (4, 14)]


def test_a_finished_run_logs_nothing(tmp_path: Path) -> None:
    with EventLog(tmp_path):
        pass
    assert not list(tmp_path.iterdir())
