"""The progress bar of an epoch, with the time left of the whole run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as ProgressBar

from training.data.images import Images
from training.fit.checkpoint import Progress
from training.fit.step.step import size_in


def seconds_left(progress: Progress, done: float = 0.0, seconds: float = 0.0) -> float | None:
    """Estimate the time to the end of a run, in seconds, from the time of the run so far.

    An epoch at --small-size takes a share of the time that is its share of the pixels. An early
    stop is not foreseen.

    Args:
        progress: Finished epochs of the run.
        done: Share of the running epoch that is done, 0 to 1.
        seconds: Time of the running epoch so far.

    Returns:
        The time, or `None` before the first step.
    """
    finished = len(progress.epochs)
    costs = [_cost(progress, epoch) for epoch in range(progress.recipe.epochs)]
    running = costs[finished] if finished < len(costs) else 0.0
    paid = sum(costs[:finished]) + done * running
    spent = sum(epoch.seconds for epoch in progress.epochs) + seconds
    return (sum(costs) - paid) * spent / paid if paid else None


def _cost(progress: Progress, epoch: int) -> float:
    """Return the relative time of an epoch (from 0): 1 at full size."""
    recipe = progress.recipe
    return (size_in(recipe, epoch) / recipe.size) ** 2


def text_of(seconds: float | None) -> str:
    """Return a time as a person says it: 40 s left, 12 min left, 3 h 05 min left."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s left"
    minutes = round(seconds / 60)
    return (
        f"{minutes} min left" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min left"
    )


def track_epoch(
    batches: Iterable[Images], steps: int, progress: Progress, console: Console
) -> Iterator[Images]:
    """Yield the batches, and show a bar with the time left of the whole run on a terminal.

    Args:
        batches: Batches of the rest of an epoch.
        steps: Their number.
        progress: State of the run before them.
        console: Console to show the bar on.
    """
    before, start = progress.running, time.perf_counter() - progress.running.seconds
    description = f"epoch {len(progress.epochs) + 1}/{progress.recipe.epochs}"
    total = before.steps + steps
    with ProgressBar(*_columns(), console=console, transient=True) as bar:
        task = bar.add_task(description, total=total, completed=before.steps, left="")
        for step, batch in enumerate(batches, before.steps + 1):
            yield batch
            left = seconds_left(progress, step / total, time.perf_counter() - start)
            bar.update(task, completed=step, left=text_of(left))


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]}"),
    )
