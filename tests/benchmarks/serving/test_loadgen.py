"""MLPerf LoadGen against our server on loopback."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offramp.bundle.manifest import read_manifest
from offramp.load.outcomes import open_loop, poisson
from offramp.load.sender import Load, send
from serving.runtime.cpu import CpuRuntime
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images, write_bundle

pytest.importorskip("mlperf_loadgen")
from benchmarks.serving.loadgen import Scenario, results, send_by_loadgen, summary_of

FILES = [png(image) for image in random_images(20, seed=3)]
RATE, SECONDS = 100, 1


class SlowRuntime(CpuRuntime):
    """The real runtime on a slower machine: its first stage takes some milliseconds more."""

    def run(self, stage: int, inputs: Any, *, head: bool = True) -> Any:
        time.sleep(0.05 if stage == 0 else 0)
        return super().run(stage, inputs, head=head)

    def run_whole(self, inputs: Any) -> Any:
        time.sleep(0.05)
        return super().run_whole(inputs)


def test_both_generators_send_the_same_rate_and_measure_the_same_latency(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bundle = write_bundle(tmp_path / "testnet")
    with serving(bundle) as running:
        running.app.engine.stage_threads.runtime = SlowRuntime(bundle, read_manifest(bundle))
        path = "/classify?budget=medium"
        plan = open_loop(path, poisson(RATE, SECONDS, rng), len(FILES), rng)
        mine = summary_of(send(FILES, plan, Load(running.port, 64)))
        theirs = send_by_loadgen(FILES, Scenario(running.port, path, RATE, SECONDS, 7))
        refused = send_by_loadgen(FILES, Scenario(running.port, "/nowhere", RATE, 0.2, 7))
    for found in (mine, theirs):
        assert found.failed == 0
        assert found.requests == pytest.approx(RATE * SECONDS, rel=0.3)
        assert 0 < found.p50 <= found.p99
    assert 1 / 3 < mine.p50 / theirs.p50 < 3
    assert refused.failed == refused.requests > 0


def test_results_are_the_numbers_of_the_log() -> None:
    log = (
        ':::MLLOG {"key": "result_50.00_percentile_latency_ns", "value": 1500}\n'
        "something else\n"
        ':::MLLOG {"key": "sut_name", "value": "PySUT"}\n'
    )
    assert results(log) == {"result_50.00_percentile_latency_ns": 1500}
