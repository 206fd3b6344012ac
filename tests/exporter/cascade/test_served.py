"""A cascade in the server and in process: the answers of its files, at all budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.bundle import read_bundle
from exporter.cascade.networks.reduction import reduce_images
from exporter.stages.runner import Chain
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.in_process.chunk_runner import ChunkRunner
from serving.engine.overload import OverloadDetector
from serving.engine.policy import Policy, resolve
from serving.engine.request import Answer
from serving.runtime.cpu import CpuRuntime
from serving.runtime.cuda.runtime import CudaRuntime
from serving.runtime.cuda.slots import CudaSlots, Device
from serving.settings import Layout
from tests.exporter.cascade.cascades import LARGE, SIZE, SMALL, two_exits
from tests.exporter.cascade.classifiers import pictures
from tests.serving.engines import classify, engine_of
from tests.serving.servers import GatedRuntime, serving
from tests.serving.small_bundle import png

PIXELS, _ = pictures(12, 32, seed=7)
FULL = Policy("full", "full", (2.0, 2.0, 2.0, 0.0))
DEEP = Policy("deep", "deep", (2.0, 2.0, 0.5, 0.0))  # evaluates no exit of the first network
Outputs = NDArray[Any]


@pytest.fixture(scope="module")
def manifest(cascade: Path) -> Manifest:
    return read_manifest(cascade)


@pytest.fixture(scope="module")
def outputs(manifest: Manifest) -> Outputs:
    """The probabilities of each exit by the files of the networks, [exits, N, labels]."""
    middle = Chain(two_exits()).run(reduce_images(PIXELS, SIZE, "bilinear")).probabilities
    small = SMALL.probabilities(reduce_images(PIXELS, 16, "bilinear"))
    found = np.stack([small, *middle, LARGE.probabilities(PIXELS)])
    cooled = found ** (1 / np.array([s.temperature for s in manifest.stages]))[:, None, None]
    return np.asarray(cooled / cooled.sum(axis=2, keepdims=True))


def exit_for(outputs: Outputs, image: int, thresholds: tuple[float, ...]) -> int:
    """Return the exit at which an image leaves, from 0."""
    return next(k for k, t in enumerate(thresholds) if outputs[k, image].max() >= t)


def assert_like_the_files(
    answers: list[Answer], outputs: Outputs, manifest: Manifest, policy: Policy
) -> None:
    for image, answer in enumerate(answers):
        taken = exit_for(outputs, image, policy.thresholds)
        assert answer.exit == taken + 1
        assert answer.flops == manifest.flops_of(taken + 1, policy.asks)
        assert [each is not None for each in answer.opinions[:-1]] == list(policy.asks[:taken])
        for k, opinion in enumerate(answer.opinions):
            if opinion is not None:
                assert np.abs(opinion.probabilities - outputs[k, image]).max() < 1e-4


def test_statistics_count_batches_of_requests_that_skip_the_first_network(cascade: Path) -> None:
    with serving(cascade) as running, running.client as client:
        for pixels in PIXELS[:3]:
            client.post("/classify?budget=full", content=png(pixels)).raise_for_status()
        (stats,) = client.get("/v2/models/stats").json()["model_stats"]
    assert (stats["inference_count"], stats["execution_count"]) == (3, 3)


def test_the_server_gives_the_answers_of_the_files(
    cascade: Path, manifest: Manifest, outputs: Outputs
) -> None:
    queries: list[dict[str, Any]] = [{"budget": name} for name in manifest.budgets]
    queries += [{"budget": "70%"}, {"min_confidence": 0.6}, {"budget": "full", "explain": True}]
    with serving(cascade) as running, running.client as client:
        for query in queries:
            policy = resolve(manifest, **query)
            for image, pixels in enumerate(PIXELS[:6]):
                reply = client.post("/classify", content=png(pixels), params=query)
                (answer,) = reply.json()["answers"]
                taken = exit_for(outputs, image, policy.thresholds)
                probabilities = outputs[taken, image]
                assert answer["exit"] == taken + 1, query
                assert answer["label"] == manifest.labels[probabilities.argmax()]
                assert answer["probability"] == pytest.approx(probabilities.max(), abs=1e-4)
                assert answer["flops"] == manifest.flops_of(taken + 1, policy.asks)
        reply = client.post(
            "/classify", content=png(PIXELS[0]), params={"budget": "full", "deadline_ms": 20_000}
        )
        assert reply.json()["answers"][0]["exit"] == 4
        assert running.free_slots() == running.app.engine.pool.slots


@pytest.mark.parametrize("layout", ["native", "portable"])
def test_chunks_and_the_engine_give_the_answers_of_the_files(
    cascade: Path,
    manifest: Manifest,
    outputs: Outputs,
    layout: Layout,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = CpuRuntime(cascade, manifest, layout)
    assert caplog.messages == []
    runner = ChunkRunner(runtime, manifest, 16, 4)

    async def by_engine(policy: Policy) -> list[Answer]:
        async with engine_of(runtime, manifest) as engine:
            return await classify(engine, PIXELS, policy)

    for policy in (FULL, DEEP, resolve(manifest, "medium"), resolve(manifest, "low", explain=True)):
        chunk = [each for each in runner.run([*PIXELS], policy, 0.0) if isinstance(each, Answer)]
        assert len(chunk) == len(PIXELS)
        assert_like_the_files(chunk, outputs, manifest, policy)
        assert_like_the_files(asyncio.run(by_engine(policy)), outputs, manifest, policy)


def test_the_engine_on_a_device_gives_the_answers_of_the_files(
    cascade: Path, manifest: Manifest, outputs: Outputs
) -> None:
    inputs = [stage.inputs for stage in manifest.stages]
    features = [stage.features for stage in manifest.stages]
    pool = CudaSlots(inputs, features, 32, Device("cpu"))
    runtime = CudaRuntime(cascade, manifest, pool, 4)

    async def by_engine(policy: Policy) -> list[Answer]:
        async with engine_of(runtime, manifest, pool=pool, max_batch=4) as engine:
            return await classify(engine, PIXELS, policy)

    for policy in (FULL, resolve(manifest, "medium"), resolve(manifest, "low", explain=True)):
        assert_like_the_files(asyncio.run(by_engine(policy)), outputs, manifest, policy)


def test_full_depth_runs_the_last_network_only(cascade: Path, manifest: Manifest) -> None:
    runtime = GatedRuntime(cascade, manifest)

    async def run(policy: Policy) -> list[int]:
        async with engine_of(runtime, manifest) as engine:
            runtime.batches.clear()
            await classify(engine, PIXELS, policy)
            return sorted({stage for stage, _ in runtime.batches})

    assert asyncio.run(run(FULL)) == [3]
    assert manifest.full_stage_flops == (0, 0, 0, manifest.stages[3].flops)
    assert asyncio.run(run(DEEP)) == [1, 2, 3]


def test_under_overload_full_depth_leaves_at_the_first_exit(
    cascade: Path, manifest: Manifest
) -> None:
    class Overloaded(OverloadDetector):
        def update(self, *_: object) -> bool:
            return True

    async def run() -> list[Answer]:
        runtime = CpuRuntime(cascade, manifest)
        async with engine_of(runtime, manifest, overload=Overloaded(1.0)) as engine:
            await classify(engine, PIXELS[:1], FULL)  # overload is known from then on
            return await classify(engine, PIXELS, FULL)

    answers = asyncio.run(run())
    assert {(answer.exit, answer.degraded) for answer in answers} == {(1, True)}
    assert {answer.flops for answer in answers} == {manifest.stages[0].flops}


def test_a_bundle_in_a_cascade_keeps_its_features(cascade: Path) -> None:
    manifest, graphs = read_bundle(cascade)
    (features,) = graphs[1].features
    assert features.name == "network_2/features_1_1"
    assert [spec.name for spec in manifest.stages[2].inputs] == [features.name]
    assert not manifest.stages[0].features
