"""Run every stage on noise before the first request, to make its plans and measure its times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from serving.engine.latency import Latency
from serving.errors import StageError
from serving.runtime.base import Runtime, Slots, StageOutput

REPEATS = 3
MAX_BATCH_SECONDS = 0.04
SLACK = 0.01  # of a probability, by rounding in low precision
LEAST_SECONDS = 1e-7  # of a stage that has nothing to do, by a clock of any resolution


def useful_batch(runtime: Runtime, pool: Slots, most: int, clock: Callable[[], float]) -> int:
    """Return the largest power of two that keeps no stage busy for MAX_BATCH_SECONDS, 1 to `most`.

    For a core with that much to do, larger batches answer no more images per second. They need
    more memory, and requests wait longer for the batch before theirs.
    """
    slots, longest = _filled(pool, 1), 0.0
    for stage in range(len(runtime.inputs)):
        seconds, output = _timed(partial(runtime.run, stage, pool.gather(stage, slots)), clock)
        longest = max(longest, seconds)
        pool.scatter(stage, slots, [0], output.features)
    pool.give(slots[0])
    images = int(MAX_BATCH_SECONDS / max(longest, 1e-9))
    return min(most, 1 << max(images.bit_length() - 1, 0))


def probe(runtime: Runtime, pool: Slots) -> None:
    """Run one image of noise through all exits, and check that each gives probabilities.

    Raises:
        StageError: The output of an exit is not finite, or not from 0 to 1.
    """
    slots = _filled(pool, 1)
    try:
        for stage in range(len(runtime.inputs)):
            output = runtime.run(stage, pool.gather(stage, slots))
            assert output.probabilities is not None
            found = np.asarray(output.probabilities)
            if not ((found >= -SLACK) & (found <= 1 + SLACK)).all():  # neither of NaN
                raise StageError(f"exit {stage + 1} gives no probabilities for an image of noise")
            pool.scatter(stage, slots, [0], output.features)
    finally:
        for slot in slots:
            pool.give(slot)


def measure(
    runtime: Runtime, pool: Slots, sizes: Sequence[int], clock: Callable[[], float]
) -> Latency:
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
    stages = len(runtime.inputs)
    tables = {head: np.empty((stages, len(sizes))) for head in (True, False)}
    whole_network = np.empty(len(sizes)) if runtime.whole_network else None
    columns = [*enumerate(sizes)]
    for column, size in reversed(columns):  # the largest allocates memory for all
        slots = _filled(pool, size)
        if whole_network is not None:
            run = partial(runtime.run_whole, pool.gather(0, slots))
            whole_network[column], _ = _timed(run, clock)
        for stage in range(stages):
            inputs = pool.gather(stage, slots)
            for head, table in tables.items():
                run = partial(runtime.run, stage, inputs, head=head)
                table[stage, column], output = _timed(run, clock)
            if stage < stages - 1:
                pool.scatter(stage, slots, list(range(size)), output.features)
        for slot in slots:
            pool.give(slot)
    return Latency(
        sizes,
        tables[True].tolist(),
        tables[False].tolist(),
        filled=runtime.batch_sizes is not None,
        whole_network=None if whole_network is None else whole_network.tolist(),
    )


def _filled(pool: Slots, size: int) -> list[int]:
    """Take slots and fill them with noise."""
    rng, slots = np.random.default_rng(size), pool.take(size)
    for slot in slots:
        pool.put(slot, rng.integers(0, 256, pool.images.shape[1:], np.uint8))
    return slots


def _timed(run: Callable[[], StageOutput], clock: Callable[[], float]) -> tuple[float, StageOutput]:
    """Return the least seconds of several runs, and the output of the last."""
    seconds = []
    for _ in range(REPEATS):
        started = clock()
        output = run()
        seconds.append(clock() - started)
    return max(min(seconds), LEAST_SECONDS), output
