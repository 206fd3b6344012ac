"""The runtime for CUDA, here on the CPU's provider: bound memory, sessions for each size, lanes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest
from serving.engine.policy import Policy, resolve
from serving.engine.request import Answer
from serving.engine.warm_up import measure
from serving.errors import DeadlineError, PoolFullError
from serving.observe.metrics import OUTCOMES, Outcome
from serving.runtime import session
from serving.runtime.base import Runtime, Slots, StageOutput, Tensors, sizes_up_to
from serving.runtime.cpu import CpuRuntime
from serving.runtime.cuda import CudaRuntime
from serving.runtime.cuda_slots import CudaSlots, Device
from serving.settings import Provider
from tests.serving.engines import AT_ONCE, BUDGETS, WatchedEngine, classify, engine_of, until
from tests.serving.servers import Encode, Running, Serve
from tests.serving.small_bundle import random_images

Expected = NDArray[np.float32]
SLOT_COUNT = 6
IMAGES = random_images(24, 3)


def on_device(
    bundle: Path,
    manifest: Manifest,
    slots: int = 64,
    max_batch: int = 8,
    device: Provider = "cpu",
) -> tuple[CudaRuntime, CudaSlots]:
    pool = CudaSlots(
        [stage.inputs for stage in manifest.stages],
        [stage.features for stage in manifest.stages],
        slots,
        Device(device),
    )
    return CudaRuntime(bundle, manifest, pool, max_batch), pool


def put(pool: Slots, images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> list[int]:
    slots = pool.take(len(images))
    for slot, image in zip(slots, images, strict=True):
        pool.put(slot, image)
    return slots


def chain(runtime: Runtime, pool: Slots, slots: list[int]) -> list[StageOutput]:
    return [runtime.run(stage, pool.gather(stage, slots)) for stage in range(4)]


def exit_of(output: StageOutput) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the probabilities and the confidence of an output with the head."""
    assert output.probabilities is not None
    assert output.confidence is not None
    return output.probabilities, output.confidence


@pytest.fixture(scope="module")
def small(bundle: Path, manifest: Manifest) -> tuple[CudaRuntime, CudaSlots]:
    return on_device(bundle, manifest, SLOT_COUNT, 4)


@pytest.fixture(scope="module")
def expected(bundle: Path, manifest: Manifest) -> Expected:
    """Return the probabilities of every exit for every image, [exits, images, classes]."""
    runtime, found = CpuRuntime(bundle, manifest, layout="portable"), []
    known: dict[str, NDArray[np.generic]] = {"image": IMAGES}
    for stage in range(4):
        output = runtime.run(stage, known)
        known |= output.features
        found.append(exit_of(output)[0])
    return np.stack(found)


operations = st.one_of(
    st.tuples(st.just("arrive"), st.integers(0, len(IMAGES) - 1)),
    st.tuples(st.just("hang_up"), st.integers(0, SLOT_COUNT - 1)),
    st.tuples(
        st.just("run"),
        st.integers(0, 3),
        st.permutations(range(SLOT_COUNT)),
        st.lists(st.booleans(), min_size=SLOT_COUNT, max_size=SLOT_COUNT),
        st.booleans(),
    ),
)


class Traffic:
    """Requests on their way, as their slot, their stage and the number of their image."""

    def __init__(self, runtime: CudaRuntime, pool: CudaSlots, expected: Expected) -> None:
        self.runtime, self.pool, self.expected = runtime, pool, expected
        self.waiting: dict[int, tuple[int, int]] = {}

    def arrive(self, image: int) -> None:
        if self.pool.free:
            (slot,) = put(self.pool, [IMAGES[image]])
            self.waiting[slot] = (0, image)

    def hang_up(self, which: int) -> None:
        if self.waiting:
            slot = list(self.waiting)[which % len(self.waiting)]
            del self.waiting[slot]
            self.pool.give(slot)

    def run(self, stage: int, order: list[int], continues: list[bool], head: bool) -> None:
        slots = [slot for slot, (at, _) in self.waiting.items() if at == stage]
        slots = sorted(slots, key=lambda slot: order[slot])[:4]
        if not slots:
            return
        output = self.runtime.run(stage, self.pool.gather(stage, slots), head=head)
        assert not output.features
        images = [self.waiting[slot][1] for slot in slots]
        if head or stage == 3:
            wanted = self.expected[stage, images]
            probabilities, confidence = exit_of(output)
            np.testing.assert_allclose(probabilities, wanted, atol=1e-5)
            np.testing.assert_allclose(confidence, wanted.max(1), atol=1e-5)
        else:
            assert output.confidence is output.probabilities is None
        for slot, image in zip(slots, images, strict=True):
            del self.waiting[slot]
            if continues[slot] and stage < 3:
                self.waiting[slot] = (stage + 1, image)
            else:
                self.pool.give(slot)


@settings(max_examples=300, deadline=None)
@given(st.lists(operations, max_size=40))
def test_every_stage_reads_the_features_of_its_requests(
    small: tuple[CudaRuntime, CudaSlots], expected: Expected, steps: list[tuple[Any, ...]]
) -> None:
    runtime, pool = small
    traffic = Traffic(runtime, pool, expected)
    for image in range(4):
        traffic.arrive(image)
    for name, *arguments in steps:
        getattr(traffic, name)(*arguments)
    for slot in traffic.waiting:
        pool.give(slot)
    assert pool.free == SLOT_COUNT


@pytest.mark.parametrize("count", range(1, 9))
def test_batches_of_any_size_are_filled_up(
    bundle: Path, manifest: Manifest, expected: Expected, count: int
) -> None:
    runtime, pool = on_device(bundle, manifest)
    outputs = chain(runtime, pool, put(pool, IMAGES[:count]))
    assert runtime.batch_sizes == [1, 2, 4, 8]
    for output, wanted in zip(outputs, expected[:, :count], strict=True):
        assert exit_of(output)[0].shape == (count, 10)
        np.testing.assert_allclose(exit_of(output)[0], wanted, atol=1e-5)


def test_a_batch_that_is_filled_up_changes_no_other_request(
    bundle: Path, manifest: Manifest, expected: Expected
) -> None:
    """Requests that ran before it in the same lane still need their features."""
    runtime, pool = on_device(bundle, manifest, slots=7, max_batch=4)
    first = put(pool, IMAGES[:4])
    for stage in range(3):
        runtime.run(stage, pool.gather(stage, first))
    then = put(pool, IMAGES[4:7])
    for stage in range(2):
        runtime.run(stage, pool.gather(stage, then))
    found, _ = exit_of(runtime.run(3, pool.gather(3, first)))
    np.testing.assert_allclose(found, expected[3, :4], atol=1e-5)


def test_results_do_not_change_with_the_next_batch(
    small: tuple[CudaRuntime, CudaSlots], expected: Expected
) -> None:
    """They are not a view of memory that the next batch is bound to."""
    runtime, pool = small
    one, other = put(pool, IMAGES[:1]), put(pool, IMAGES[1:2])
    found, _ = exit_of(runtime.run(0, pool.gather(0, one)))
    runtime.run(0, pool.gather(0, other))
    np.testing.assert_allclose(found, expected[0, :1], atol=1e-5)
    for slot in (*one, *other):
        pool.give(slot)


def test_threads_use_the_same_sessions_in_lanes_of_their_own(
    bundle: Path, manifest: Manifest, expected: Expected
) -> None:
    runtime, pool = on_device(bundle, manifest, slots=24)
    slots = put(pool, IMAGES)
    batches = [slice(i, i + 3) for i in range(0, 24, 3)]

    def run(batch: slice) -> list[NDArray[np.float32]]:
        return [exit_of(output)[0] for output in chain(runtime, pool, slots[batch])]

    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            for batch, found in zip(batches, threads.map(run, batches), strict=True):
                np.testing.assert_allclose(found, expected[:, batch], atol=1e-5)
    assert all(lanes.idle <= 4 for lanes in runtime.stages[0].lanes.values())


def test_of_many_classes_the_likeliest_go_to_the_host(
    bundle: Path, manifest: Manifest, expected: Expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.runtime.cuda.MOST_CLASSES", 3)
    runtime, pool = on_device(bundle, manifest)
    for output, wanted in zip(
        chain(runtime, pool, put(pool, IMAGES[:5])), expected[:, :5], strict=True
    ):
        probabilities, confidence = exit_of(output)
        best = np.argsort(-wanted, axis=1)[:, :3]
        np.testing.assert_array_equal(np.argsort(-probabilities, axis=1)[:, :3], best)
        assert ((probabilities > 0).sum(1) == 3).all()
        np.testing.assert_allclose(confidence, wanted.max(1), atol=1e-5)


def test_a_stage_that_cannot_run_is_named(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, pool = on_device(bundle, manifest, max_batch=2)
    runtime.warm_up(2)
    monkeypatch.setattr(pool, "spare", 99)  # no such row
    with pytest.raises(BundleError, match=r"stage1\.onnx: fails to run"):
        runtime.warm_up(1)


def test_engines_on_host_and_device_answer_the_same(bundle: Path, manifest: Manifest) -> None:
    images = random_images(96, 11)
    policies = [resolve(manifest, BUDGETS[i % 4], explain=i % 5 == 0) for i in range(96)]

    async def answers(runtime: Runtime, pool: Slots | None = None) -> list[Answer]:
        async with engine_of(runtime, manifest, slots=96, threads=3, pool=pool) as engine:
            calls = (classify(engine, [i], p) for i, p in zip(images, policies, strict=True))
            return [answer for (answer,) in await asyncio.gather(*calls)]

    host = asyncio.run(answers(CpuRuntime(bundle, manifest)))
    device = asyncio.run(answers(*on_device(bundle, manifest, slots=96)))
    assert {answer.exit for answer in host} == {1, 2, 3, 4}
    for one, other in zip(host, device, strict=True):
        assert one.exit == other.exit
        assert [o is None for o in one.opinions] == [o is None for o in other.opinions]
        for a, b in zip(one.opinions, other.opinions, strict=True):
            if a is not None and b is not None:
                np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-5)


@pytest.mark.parametrize(("where", "largest"), [("host", 3), ("device", 8)])
def test_idle_threads_take_a_part_of_a_batch_but_not_on_a_device(
    bundle: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, where: str, largest: int
) -> None:
    """There both parts would run on the same device."""
    runtime: Runtime = CpuRuntime(bundle, manifest)
    pool: Slots | None = None
    if where == "device":
        runtime, pool = on_device(bundle, manifest)
    sizes, run = list[int](), runtime.run

    def spy(stage: int, inputs: Tensors, *, head: bool = True) -> StageOutput:
        sizes.append(len(next(iter(inputs.values()))))
        return run(stage, inputs, head=head)

    async def classify_twice() -> None:
        async with engine_of(runtime, manifest, threads=3, pool=pool) as engine:
            await classify(engine, IMAGES[:1], AT_ONCE)  # which starts the threads
            await until(lambda: engine.stage_threads.running == 0)
            monkeypatch.setattr(runtime, "run", spy)
            await classify(engine, IMAGES[:8], AT_ONCE)

    asyncio.run(classify_twice())
    assert max(sizes) == largest
    assert sum(sizes) == 8


def test_no_request_is_lost_under_random_events(bundle: Path, manifest: Manifest) -> None:
    """Hang-ups, deadlines and refusals at random: every request ends once, every slot is free."""
    rng = np.random.default_rng(5)

    async def one(engine: WatchedEngine, image: NDArray[np.uint8]) -> None:
        await asyncio.sleep(float(rng.uniform(0, 0.2)))
        deadline = float(rng.uniform(1e-4, 0.02)) if rng.random() < 0.3 else None
        policy = resolve(manifest, BUDGETS[rng.integers(4)])
        policy = Policy(policy.name, policy.asked, policy.thresholds, deadline)
        try:
            async with asyncio.timeout(float(rng.uniform(0, 0.01)) if rng.random() < 0.3 else 30):
                await classify(engine, [image], policy)
        except (TimeoutError, DeadlineError, PoolFullError):
            pass

    async def run() -> dict[Outcome, float]:
        runtime, pool = on_device(bundle, manifest, slots=16)
        async with engine_of(runtime, manifest, pool=pool) as engine:
            await asyncio.gather(*(one(engine, image) for image in random_images(200, 13)))
            return {o: sum(engine.counted(b, o) for b in BUDGETS) for o in OUTCOMES}

    total = asyncio.run(run())
    assert sum(total.values()) == 200
    assert total["failed"] == 0


def test_servers_on_host_and_device_answer_the_same(
    bundle: Path, serve: Serve, encode: Encode
) -> None:
    def ask(running: Running) -> list[dict[str, Any]]:
        with running.client as client:
            answers = []
            for i, image in enumerate(IMAGES):
                query = {"budget": BUDGETS[i % 4], "explain": "true", "top_k": "10"}
                reply = client.post("/classify", params=query, content=encode(image))
                assert reply.status_code == 200
                (answer,) = reply.json()["answers"]
                answers.append(answer)
            return answers

    with serve(bundle) as host, serve(bundle, on_device=True, max_batch=6) as device:
        pairs = list(zip(ask(host), ask(device), strict=True))
    assert {one["exit"] for one, _ in pairs} == {1, 2, 3, 4}
    for one, other in pairs:
        for name in ("label", "exit", "flops"):
            assert one[name] == other[name]
        assert [o["label"] for o in one["explain"]] == [o["label"] for o in other["explain"]]
        for a, b in zip(one["top_k"], other["top_k"], strict=True):
            assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)


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
        assert lanes.result_bytes == 8 * (4 + 10 * 4)
