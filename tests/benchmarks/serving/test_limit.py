from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serving import limit
from benchmarks.serving.limit import BATCH, Limits, sample, staged
from benchmarks.serving.offline import Chain, evaluate
from offramp.bundle.manifest import read_manifest
from serving.runtime.cpu import CpuRuntime
from tests.serving.small_bundle import random_images, write_bundle


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.data())
def test_each_exit_has_its_share_of_a_sample(leaves, data) -> None:
    exits = np.array(leaves)
    count = data.draw(st.integers(1, len(exits)))
    chosen = sample(exits, count)
    assert len(set(chosen.tolist())) == count
    for number in range(4):
        share = (exits == number).mean()
        assert (exits[chosen] == number).sum() == pytest.approx(share * count, abs=1)


def test_the_loop_costs_what_those_who_are_sent_cost_whoever_comes_first(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    images = random_images(64, 0)
    opinions = evaluate(folder, manifest, images)
    half = float(np.median(opinions.confidence[0]))
    thresholds = (half, *(2.0,) * (manifest.exits - 2), 0.0)
    exits = opinions.exits(thresholds)
    hardest_first = np.argsort(-exits, kind="stable")
    runtime = CpuRuntime(folder, manifest)
    chosen = sample(exits[hardest_first], 32)
    reached = [
        len(said.inputs[runtime.inputs[k][0].name])
        for k, said in enumerate(Chain(runtime).run(images[hardest_first][chosen], thresholds))
    ]
    assert reached == [32] + [16] * (manifest.exits - 1)
    work = staged(runtime, thresholds, images[hardest_first][chosen])
    assert work.answers == 32
    assert len(work.calls) == 32 // BATCH + (manifest.exits - 1) * 16 // BATCH
    for call in work.calls:
        call()


def test_limits_are_of_a_sample_and_not_of_those_who_come_first(
    tmp_path: Path, monkeypatch
) -> None:
    folder = write_bundle(tmp_path / "bundle")
    manifest = read_manifest(folder)
    images = random_images(64, 0)
    opinions = evaluate(folder, manifest, images)
    thresholds = {name: point.thresholds for name, point in manifest.budgets.items()}
    hardest_first = np.argsort(-opinions.exits(thresholds["medium"]), kind="stable")
    images = images[hardest_first]
    opinions = evaluate(folder, manifest, images)
    monkeypatch.setattr(limit, "IMAGES", 32)
    made = Limits(folder, {name: name for name in thresholds}, images, opinions)
    runtime, differ = CpuRuntime(folder, manifest), 0
    for name, cuts in thresholds.items():
        calls = len(made.work[name].calls)
        assert calls == len(staged(runtime, cuts, images[sample(opinions.exits(cuts), 32)]).calls)
        differ += calls != len(staged(runtime, cuts, images[:32]).calls)
    assert differ
    for found in made.measure(0.01).values():
        assert found.rate > 0
        assert found.cpu > 0
