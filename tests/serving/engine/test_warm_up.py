from time import thread_time

import pytest

from serving.engine.warm_up import measure
from serving.runtime.cpu import Runtime
from serving.runtime.slots import Pool


@pytest.fixture
def runtime(bundle, manifest):
    return Runtime(bundle, manifest)


def test_every_stage_is_run_at_every_size_with_and_without_its_head(gated) -> None:
    pool = Pool(gated.inputs, gated.features, 8)
    measure(gated, pool, [1, 3], thread_time)
    assert {*zip(gated.batches, gated.heads, strict=True)} == {
        ((stage, size), head) for stage in range(4) for size in (1, 3) for head in (True, False)
    }
    assert pool.free == 8


def test_the_way_through_is_run_at_every_size_where_there_is_one(gated, runtime) -> None:
    gated.whole.clear()
    latency = measure(gated, Pool(gated.inputs, gated.features, 8), [1, 3], thread_time)
    assert {*gated.whole} == {1, 3}
    assert 0 < latency.whole_network.time(0, 3) < 1
    runtime._whole_network = None
    latency = measure(runtime, Pool(runtime.inputs, runtime.features, 8), [1, 3], thread_time)
    assert latency.whole_network is None


def test_its_times_are_those_of_the_stages(runtime) -> None:
    latency = measure(runtime, Pool(runtime.inputs, runtime.features, 64), [1, 64], thread_time)
    assert latency.stages == 4
    for stage in range(4):
        assert 0 < latency.time(stage, 1) < latency.time(stage, 64) < 1
