from __future__ import annotations

from itertools import count

import numpy as np

from exporter.stages.times import RUNS, machine, measure_times, prices
from tests.exporter.cascade.cascades import two_exits


def test_each_stage_is_measured_with_its_head_and_without() -> None:
    clock = count()
    times = measure_times(two_exits(), clock=lambda: float(next(clock)))
    assert [*times.batches, times.threads, times.runs] == [1, 8, 1, RUNS]
    first, last = times.stages
    assert [first.with_head, first.without_head, last.with_head] == [(1000, 1000)] * 3
    assert list(last.without_head) == [0, 0]  # it is all head
    assert next(clock) == 2 * RUNS * 2 * 3
    assert machine() == times.machine
    assert "ONNX Runtime" in machine()
    assert prices(times).tolist() == [1000, 2000]


def test_real_times_grow_with_the_batch() -> None:
    times = measure_times(two_exits())
    values = np.array([[stage.with_head, stage.without_head] for stage in times.stages])
    assert (values[:, 0] > 0).all()
    assert (values[0] > 0).all()
