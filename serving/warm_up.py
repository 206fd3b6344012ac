"""Every stage run with noise before the first request: its code paths, plans and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from serving.latency import Latency
from serving.pool import Slots
from serving.runtime import Runtime
from serving.stages import StageOutput

REPEATS = 3


def measure(
    runtime: Runtime, pool: Slots, sizes: Sequence[int], clock: Callable[[], float]
) -> Latency:
    """Run every stage at every batch size, with and without its head, and keep the least times.

    All stages in one graph are run too, where there is such.

    A pause of the machine only adds to a time, and load is learnt from the batches that run. On
    the CPU, where a batch keeps one thread busy, the thread's CPU time is the better `clock`.
    """
    rng = np.random.default_rng(0)
    stages, (image,) = len(runtime.inputs), runtime.inputs[0]
    tables = {head: np.empty((stages, len(sizes))) for head in (True, False)}
    through = np.empty(len(sizes)) if runtime.through else None
    for column, size in reversed([*enumerate(sizes)]):  # what the largest allocates serves all
        slots = pool.take(size)
        for slot in slots:
            pool.put(slot, rng.integers(0, 256, image.shape, np.uint8))
        if through is not None:
            inputs = pool.gather(0, slots)
            through[column], _ = _timed(partial(runtime.run_through, inputs), clock)
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
        filled=runtime.on_device,
        through=None if through is None else through.tolist(),
    )


def _timed(run: Callable[[], StageOutput], clock: Callable[[], float]) -> tuple[float, StageOutput]:
    """The least seconds of several runs, and what the last gave."""
    seconds = []
    for _ in range(REPEATS):
        started = clock()
        output = run()
        seconds.append(clock() - started)
    return min(seconds), output
