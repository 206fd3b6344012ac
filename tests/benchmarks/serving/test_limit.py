"""Throughput of the stages alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serving import limit
from benchmarks.serving.limit import BATCH, Limits, Work, measure, sample, staged
from benchmarks.serving.offline import Chain, evaluate
from offramp.bundle.manifest import read_manifest
from serving.runtime.cpu import CpuRuntime
from tests.serving.small_bundle import random_images, write_bundle


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.data())
def test_each_exit_keeps_its_share_in_a_sample(taken: list[int], data: st.DataObject) -> None:
    exits = np.array(taken)
    count = data.draw(st.integers(1, len(exits)))
    chosen = sample(exits, count)
    assert len(set(chosen.tolist())) == count
    for number in range(4):
        share = (exits == number).mean()
        assert (exits[chosen] == number).sum() == pytest.approx(share * count, abs=1)


def test_the_loop_has_the_exit_shares_of_all_images_in_any_order(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    images = random_images(64, 0)
    outputs = evaluate(folder, manifest, images)
    half = float(np.median(outputs.confidence[0]))
    thresholds = (half, *(2.0,) * (manifest.exits - 2), 0.0)
    exits = outputs.exits(thresholds)
    hardest_first = np.argsort(-exits, kind="stable")
    runtime = CpuRuntime(folder, manifest)
    chosen = sample(exits[hardest_first], 32)
    reached = [
        len(run.inputs[runtime.inputs[k][0].name])
        for k, run in enumerate(Chain(runtime).run(images[hardest_first][chosen], thresholds))
    ]
    assert reached == [32] + [16] * (manifest.exits - 1)
    work = staged(runtime, thresholds, images[hardest_first][chosen])
    assert work.answers == 32
    assert len(work.batches) == 32 // BATCH + (manifest.exits - 1) * 16 // BATCH
    for run_batch in work.batches:
        run_batch()


def test_limits_are_measured_on_a_sample_and_not_on_the_first_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    images = random_images(64, 0)
    outputs = evaluate(folder, manifest, images)
    thresholds = {name: point.thresholds for name, point in manifest.budgets.items()}
    hardest_first = np.argsort(-outputs.exits(thresholds["medium"]), kind="stable")
    images = images[hardest_first]
    outputs = evaluate(folder, manifest, images)
    monkeypatch.setattr(limit, "IMAGES", 32)
    made = Limits(folder, {name: name for name in thresholds}, images, outputs)
    runtime, differ = CpuRuntime(folder, manifest), 0
    for name, values in thresholds.items():
        batches = len(made.work[name].batches)
        chosen = images[sample(outputs.exits(values), 32)]
        assert batches == len(staged(runtime, values, chosen).batches)
        differ += batches != len(staged(runtime, values, images[:32]).batches)
    assert differ
    for found in made.measure(0.01).values():
        assert found.rate > 0
        assert found.cpu > 0


def test_each_thread_measures_whole_rounds() -> None:
    runs: list[int] = []  # a batch each
    work = Work([lambda number=number: runs.append(number) for number in range(7)], 7)  # type: ignore[misc]
    assert measure(work, 2, 0.01).rate > 0
    assert len({runs.count(number) for number in range(7)}) == 1
