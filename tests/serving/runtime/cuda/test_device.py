"""The runtime for CUDA on a CUDA device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime as ort
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.start.warm_up import measure
from serving.runtime import session
from serving.runtime.base import Tensors, sizes_up_to
from tests.serving.runtime.devices import IMAGES, Expected, chain, exit_of, on_device, put


@pytest.mark.gpu
def test_cuda_gives_the_labels_of_the_cpu(
    bundle: Path, manifest: Manifest, expected: Expected
) -> None:
    runtime, pool = on_device(bundle, manifest, device="cuda")
    for output, wanted in zip(
        chain(runtime, pool, put(pool, IMAGES[:7])), expected[:, :7], strict=True
    ):
        probabilities, _ = exit_of(output)
        np.testing.assert_allclose(probabilities, wanted, atol=1e-3)
        np.testing.assert_array_equal(probabilities.argmax(1), wanted.argmax(1))


@pytest.mark.gpu
def test_sizes_that_alternate_take_as_long_on_cuda_as_alone(
    bundle: Path, manifest: Manifest
) -> None:
    runtime, pool = on_device(bundle, manifest, slots=64, max_batch=64, device="cuda")
    measure(runtime, pool, sizes_up_to(64), perf_counter)
    batches = [pool.gather(0, list(range(size))) for size in (5, 64)]

    def seconds(order: Sequence[Tensors]) -> float:
        started = perf_counter()
        for batch in order:
            runtime.run(0, batch)
        return perf_counter() - started

    one, other = batches
    rounds = [
        (seconds([one, other] * 50), seconds([one] * 50) + seconds([other] * 50)) for _ in range(7)
    ]
    assert np.median([mixed / alone for mixed, alone in rounds]) <= 1.2


@pytest.mark.gpu
def test_only_results_come_back_from_cuda(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, opened = session.session_options, list[ort.SessionOptions]()

    def profiled(*, optimise: bool = True, provider: str = "cpu") -> ort.SessionOptions:
        made = real(optimise=optimise, provider=provider)
        made.enable_profiling = True
        made.profile_file_prefix = str(tmp_path / f"session{len(opened)}")
        opened.append(made)
        return made

    monkeypatch.setattr(session, "session_options", profiled)
    runtime, pool = on_device(bundle, manifest, max_batch=8, device="cuda")
    chain(runtime, pool, put(pool, IMAGES[:8]))
    for stage in runtime.stages:
        lanes = stage.lanes[8, True]
        ran = json.loads(Path(lanes.session.end_profiling()).read_text())
        kernels = {event["args"]["op_name"] for event in ran if "op_name" in event.get("args", {})}
        assert "ScatterND" in kernels or not stage.features
        assert not any(name.startswith("Memcpy") for name in kernels)
        assert lanes.idle == 1
