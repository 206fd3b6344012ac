"""Run every stage on noise before the first request, to make its plans and measure its times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np

from serving.engine.latency import Latency
from serving.errors import StageError
from serving.runtime.base import Runtime, Slots, StageOutput

REPEATS = 3
MAX_BATCH_SECONDS = 0.04
SLACK = 0.01  # of a probability, by rounding in low precision
LEAST_SECONDS = 1e-7  # of a stage that has nothing to do, by a clock of any resolution
Clock = Callable[[], float]
BY_HEAD = (True, False)  # stages with their head, and without it


def useful_batch(runtime: Runtime, pool: Slots, most: int, clock: Clock) -> int:
    """Return the largest power of two that keeps no stage busy for MAX_BATCH_SECONDS, 1 to `most`.

    For a core with that much to do, larger batches answer no more images per second. They need
    more memory, and requests wait longer for the batch before theirs.
    """
    longest = 0.0
    with _noise(pool, 1) as slots:
        for stage in range(len(runtime.inputs)):
            seconds, output = _timed(partial(runtime.run, stage, pool.gather(stage, slots)), clock)
            longest = max(longest, seconds)
            pool.scatter(stage, slots, [0], output.features)
    images = int(MAX_BATCH_SECONDS / max(longest, 1e-9))
    return min(most, 1 << max(images.bit_length() - 1, 0))


def probe(runtime: Runtime, pool: Slots) -> None:
    """Run one image of noise through all exits, and check that each gives probabilities.

    Raises:
        StageError: The output of an exit is not finite, or not from 0 to 1.
    """
    with _noise(pool, 1) as slots:
        for stage in range(len(runtime.inputs)):
            output = runtime.run(stage, pool.gather(stage, slots))
            assert output.probabilities is not None
            found = np.asarray(output.probabilities)
            if not ((found >= -SLACK) & (found <= 1 + SLACK)).all():  # neither of NaN
                raise StageError(f"exit {stage + 1} gives no probabilities for an image of noise")
            pool.scatter(stage, slots, [0], output.features)


def measure(runtime: Runtime, pool: Slots, sizes: Sequence[int], clock: Clock) -> Latency:
    """Run every stage at every batch size, with and without its head, and keep the least times.

    The same for all stages in one graph, if it is available. The least time counts, because a
    pause of the machine only adds to it. The effect of load is learned from batches later.

    Args:
        runtime: The stages.
        pool: At least as many free slots as the largest size.
        sizes: Batch sizes, ascending.
        clock: Clock in seconds. The CPU time of the thread is more exact on the CPU, where a
            batch keeps one thread busy.
    """
    whole_network: dict[int, float] = {}
    stages: dict[int, dict[bool, list[float]]] = {}
    for size in reversed(sizes):  # the largest allocates memory for all
        with _noise(pool, size) as slots:
            if runtime.whole_network:
                run = partial(runtime.run_whole, pool.gather(0, slots))
                whole_network[size], _ = _timed(run, clock)
            stages[size] = _stage_seconds(runtime, pool, slots, clock)
    with_head, without_head = (  # [stages][sizes]
        [*zip(*(stages[size][head] for size in sizes), strict=True)] for head in BY_HEAD
    )
    return Latency(
        sizes,
        with_head,
        without_head,
        filled=runtime.batch_sizes is not None,
        whole_network=[whole_network[size] for size in sizes] if whole_network else None,
    )


def _stage_seconds(
    runtime: Runtime, pool: Slots, slots: list[int], clock: Clock
) -> dict[bool, list[float]]:
    """Return the least seconds of each stage for a batch of these slots, with head and without."""
    found: dict[bool, list[float]] = {head: [] for head in BY_HEAD}
    for stage in range(len(runtime.inputs)):
        inputs = pool.gather(stage, slots)
        for head, seconds in found.items():
            least, output = _timed(partial(runtime.run, stage, inputs, head=head), clock)
            seconds.append(least)
        pool.scatter(stage, slots, list(range(len(slots))), output.features)
    return found


@contextmanager
def _noise(pool: Slots, size: int) -> Iterator[list[int]]:
    """Take slots filled with noise, and give them back."""
    rng, slots = np.random.default_rng(size), pool.take(size)
    try:
        for slot in slots:
            pool.put(slot, rng.integers(0, 256, pool.images.shape[1:], np.uint8))
        yield slots
    finally:
        for slot in slots:
            pool.give(slot)


def _timed(run: Callable[[], StageOutput], clock: Clock) -> tuple[float, StageOutput]:
    """Return the least seconds of several runs, and the output of the last."""
    seconds = []
    for _ in range(REPEATS):
        started = clock()
        output = run()
        seconds.append(clock() - started)
    return max(min(seconds), LEAST_SECONDS), output
