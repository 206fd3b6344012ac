from __future__ import annotations

from itertools import count
from pathlib import Path
from time import thread_time

from offramp.bundle.manifest import Manifest
from serving.engine.start.warm_up import MAX_BATCH_SECONDS, measure, useful_batch
from serving.runtime.base import Runtime
from serving.runtime.cpu import CpuRuntime
from serving.runtime.slots import HostSlots
from tests.serving.servers import GatedRuntime


class StagesOnly(CpuRuntime):
    """A runtime whose stages are not available as one graph."""

    @property
    def whole_network(self) -> bool:
        return False


def slots_of(runtime: Runtime, count: int = 8) -> HostSlots:
    return HostSlots(runtime.inputs, runtime.features, count)


def test_every_stage_runs_at_every_size_with_and_without_its_head(gated: GatedRuntime) -> None:
    pool = slots_of(gated)
    measure(gated, pool, [1, 3], thread_time)
    assert {*zip(gated.batches, gated.heads, strict=True)} == {
        ((stage, size), head) for stage in range(4) for size in (1, 3) for head in (True, False)
    }
    assert pool.free == 8


def test_the_whole_network_runs_at_every_size_if_it_is_available(
    gated: GatedRuntime, bundle: Path, manifest: Manifest
) -> None:
    latency = measure(gated, slots_of(gated), [1, 3], thread_time)
    assert {*gated.whole} == {1, 3}
    assert latency.whole_network is not None
    assert 0 < latency.whole_network.time(0, 3) < 1
    stages = StagesOnly(bundle, manifest)
    assert measure(stages, slots_of(stages), [1, 3], thread_time).whole_network is None


def test_its_times_are_those_of_the_stages(bundle: Path, manifest: Manifest) -> None:
    runtime = CpuRuntime(bundle, manifest)
    latency = measure(runtime, slots_of(runtime, 64), [1, 64], thread_time)
    assert latency.stages == 4
    for stage in range(4):
        assert 0 < latency.time(stage, 1) < latency.time(stage, 64) < 1


def test_a_batch_keeps_no_stage_busy_for_longer_than_the_bound(gated: GatedRuntime) -> None:
    def batch_at(seconds: float, most: int = 64) -> int:
        pool, ticks = slots_of(gated), count()
        found = useful_batch(gated, pool, most, lambda: next(ticks) * seconds)
        assert pool.free == 8
        return found

    assert batch_at(MAX_BATCH_SECONDS / 8.5) == 8
    assert batch_at(MAX_BATCH_SECONDS / 7.5) == 4
    assert batch_at(MAX_BATCH_SECONDS / 8.5, most=6) == 6
    assert batch_at(MAX_BATCH_SECONDS * 9) == 1
    assert batch_at(0.0) == 64
