"""The path that CUDA takes, on the CPU's provider: bound memory, sessions for each size, lanes."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import serving.runtime.session
from offramp.bundle.errors import BundleError
from serving.engine.policy import Policy, resolve
from serving.engine.warm_up import measure
from serving.errors import DeadlineError, PoolFullError
from serving.observe.metrics import OUTCOMES
from serving.runtime.base import sizes_up_to
from serving.runtime.cpu import CpuRuntime
from serving.runtime.cuda import CudaRuntime
from serving.runtime.cuda_slots import CudaSlots, Device
from tests.serving.engines import AT_ONCE, BUDGETS, classify, engine_of, until
from tests.serving.small_bundle import random_images

SLOT_COUNT = 6
IMAGES = random_images(24, 3)


def on_device(bundle, manifest, slots=64, max_batch=8, device="cpu"):
    pool = CudaSlots(
        [stage.inputs for stage in manifest.stages],
        [stage.features for stage in manifest.stages],
        slots,
        Device(device),
    )
    return CudaRuntime(bundle, manifest, pool, max_batch), pool


def put(pool, images):
    slots = pool.take(len(images))
    for slot, image in zip(slots, images, strict=True):
        pool.put(slot, image)
    return slots


def chain(runtime, pool, slots):
    return [runtime.run(stage, pool.gather(stage, slots)) for stage in range(4)]


@pytest.fixture(scope="module")
def small(bundle, manifest):
    return on_device(bundle, manifest, SLOT_COUNT, 4)


@pytest.fixture(scope="module")
def expected(bundle, manifest):
    """What each exit says of each image: probabilities, [exits, images, classes]."""
    runtime, known, said = CpuRuntime(bundle, manifest, layout="portable"), {"image": IMAGES}, []
    for stage in range(4):
        output = runtime.run(stage, known)
        known |= output.features
        said.append(output.probabilities)
    return np.stack(said)


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
    """Requests on their way: slot -> (stage, image)."""

    def __init__(self, runtime, pool, expected) -> None:
        self.runtime, self.pool, self.expected = runtime, pool, expected
        self.waiting = {}

    def arrive(self, image) -> None:
        if self.pool.free:
            (slot,) = put(self.pool, [IMAGES[image]])
            self.waiting[slot] = (0, image)

    def hang_up(self, which) -> None:
        if self.waiting:
            slot = list(self.waiting)[which % len(self.waiting)]
            del self.waiting[slot]
            self.pool.give(slot)

    def run(self, stage, order, stays, head) -> None:
        slots = [slot for slot, (at, _) in self.waiting.items() if at == stage]
        slots = sorted(slots, key=lambda slot: order[slot])[:4]
        if not slots:
            return
        output = self.runtime.run(stage, self.pool.gather(stage, slots), head=head)
        assert not output.features
        images = [self.waiting[slot][1] for slot in slots]
        if head or stage == 3:
            wanted = self.expected[stage, images]
            np.testing.assert_allclose(output.probabilities, wanted, atol=1e-5)
            np.testing.assert_allclose(output.confidence, wanted.max(1), atol=1e-5)
        else:
            assert output.confidence is output.probabilities is None
        for slot, image in zip(slots, images, strict=True):
            del self.waiting[slot]
            if stays[slot] and stage < 3:
                self.waiting[slot] = (stage + 1, image)
            else:
                self.pool.give(slot)


@settings(max_examples=300, deadline=None)
@given(st.lists(operations, max_size=40))
def test_every_stage_reads_what_was_made_for_its_requests(small, expected, steps) -> None:
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
def test_batches_of_any_number_are_filled_up(bundle, manifest, expected, count) -> None:
    runtime, pool = on_device(bundle, manifest)
    outputs = chain(runtime, pool, put(pool, IMAGES[:count]))
    assert runtime._stages[0]._sizes == [1, 2, 4, 8]
    for output, wanted in zip(outputs, expected[:, :count], strict=True):
        assert output.probabilities.shape == (count, 10)
        np.testing.assert_allclose(output.probabilities, wanted, atol=1e-5)


def test_a_batch_is_filled_up_with_nobody(bundle, manifest, expected) -> None:
    """Least of all with those who ran before it in the same lane, and have features to lose."""
    runtime, pool = on_device(bundle, manifest, slots=7, max_batch=4)
    first = put(pool, IMAGES[:4])
    for stage in range(3):
        runtime.run(stage, pool.gather(stage, first))
    then = put(pool, IMAGES[4:7])
    for stage in range(2):
        runtime.run(stage, pool.gather(stage, then))
    said = runtime.run(3, pool.gather(3, first)).probabilities
    np.testing.assert_allclose(said, expected[3, :4], atol=1e-5)


def test_what_was_said_stays_said(small, expected) -> None:
    """Results are no view of memory that the next batch is bound to."""
    runtime, pool = small
    one, other = put(pool, IMAGES[:1]), put(pool, IMAGES[1:2])
    said = runtime.run(0, pool.gather(0, one)).probabilities
    runtime.run(0, pool.gather(0, other))
    np.testing.assert_allclose(said, expected[0, :1], atol=1e-5)
    for slot in (*one, *other):
        pool.give(slot)


def test_threads_share_sessions_and_no_lane(bundle, manifest, expected) -> None:
    runtime, pool = on_device(bundle, manifest, slots=24)
    slots = put(pool, IMAGES)
    batches = [slice(i, i + 3) for i in range(0, 24, 3)]

    def run(batch):
        return [output.probabilities for output in chain(runtime, pool, slots[batch])]

    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            for batch, said in zip(batches, threads.map(run, batches), strict=True):
                np.testing.assert_allclose(said, expected[:, batch], atol=1e-5)
    assert all(len(lanes._idle) <= 4 for lanes in runtime._stages[0]._lanes.values())


def test_of_many_classes_the_likeliest_cross(bundle, manifest, expected, monkeypatch) -> None:
    monkeypatch.setattr("serving.runtime.cuda.MOST_CLASSES", 3)
    runtime, pool = on_device(bundle, manifest)
    for output, wanted in zip(
        chain(runtime, pool, put(pool, IMAGES[:5])), expected[:, :5], strict=True
    ):
        best = np.argsort(-wanted, axis=1)[:, :3]
        np.testing.assert_array_equal(np.argsort(-output.probabilities, axis=1)[:, :3], best)
        assert ((output.probabilities > 0).sum(1) == 3).all()
        np.testing.assert_allclose(output.confidence, wanted.max(1), atol=1e-5)


def test_a_stage_that_cannot_run_is_named(bundle, manifest, monkeypatch) -> None:
    runtime, _ = on_device(bundle, manifest, max_batch=2)
    runtime.warm_up(2)
    monkeypatch.setattr(runtime, "_spare", 99)  # no such row
    with pytest.raises(BundleError, match=r"stage1\.onnx: fails to run"):
        runtime.warm_up(1)


def test_engines_on_host_and_device_answer_the_same(bundle, manifest) -> None:
    images = random_images(96, 11)
    policies = [resolve(manifest, BUDGETS[i % 4], explain=i % 5 == 0) for i in range(96)]

    async def answers(runtime, pool=None):
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
            if a is not None:
                np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-5)


@pytest.mark.parametrize(("where", "largest"), [("host", 3), ("device", 8)])
def test_threads_that_idle_take_a_part_of_a_batch_but_not_on_a_device(
    bundle, manifest, monkeypatch, where, largest
) -> None:
    """There it would run beside the other part, on the same device."""
    runtime, pool = on_device(bundle, manifest)
    if where == "host":
        runtime, pool = CpuRuntime(bundle, manifest), None
    sizes, run = [], runtime.run

    def spy(stage, inputs, *, head=True):
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


def test_chaos_loses_nobody(bundle, manifest) -> None:
    """Hang-ups, deadlines and refusals at random: every request ends once, every slot is free."""
    rng = np.random.default_rng(5)

    async def one(engine, image) -> None:
        await asyncio.sleep(float(rng.uniform(0, 0.2)))
        deadline = float(rng.uniform(1e-4, 0.02)) if rng.random() < 0.3 else None
        policy = resolve(manifest, BUDGETS[rng.integers(4)])
        policy = Policy(policy.name, policy.asked, policy.thresholds, deadline)
        try:
            async with asyncio.timeout(float(rng.uniform(0, 0.01)) if rng.random() < 0.3 else 30):
                await classify(engine, [image], policy)
        except (TimeoutError, DeadlineError, PoolFullError):
            pass

    async def run():
        runtime, pool = on_device(bundle, manifest, slots=16)
        async with engine_of(runtime, manifest, pool=pool) as engine:
            await asyncio.gather(*(one(engine, image) for image in random_images(200, 13)))
            return {o: sum(engine.counted(b, o) for b in BUDGETS) for o in OUTCOMES}

    total = asyncio.run(run())
    assert sum(total.values()) == 200
    assert total["failed"] == 0


def test_servers_on_host_and_device_answer_the_same(bundle, serve, encode) -> None:
    def ask(running):
        with running.client as client:
            answers = []
            for i, image in enumerate(IMAGES):
                query = {"budget": BUDGETS[i % 4], "explain": "true", "top_k": 10}
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
def test_cuda_gives_the_labels_of_the_cpu(bundle, manifest, expected) -> None:
    runtime, pool = on_device(bundle, manifest, device="cuda")
    for output, wanted in zip(
        chain(runtime, pool, put(pool, IMAGES[:7])), expected[:, :7], strict=True
    ):
        np.testing.assert_allclose(output.probabilities, wanted, atol=1e-3)
        np.testing.assert_array_equal(output.probabilities.argmax(1), wanted.argmax(1))


@pytest.mark.gpu
def test_sizes_that_take_turns_cost_on_cuda_what_they_cost_alone(bundle, manifest) -> None:
    runtime, pool = on_device(bundle, manifest, slots=64, max_batch=64, device="cuda")
    measure(runtime, pool, sizes_up_to(64), perf_counter)
    batches = [pool.gather(0, list(range(size))) for size in (5, 64)]

    def seconds(order):
        started = perf_counter()
        for batch in order:
            runtime.run(0, batch)
        return perf_counter() - started

    one, other = batches
    rounds = [
        (seconds([one, other] * 50), seconds([one] * 50) + seconds([other] * 50)) for _ in range(7)
    ]
    assert np.median([turns / alone for turns, alone in rounds]) <= 1.2


@pytest.mark.gpu
def test_nothing_but_results_comes_back_from_cuda(bundle, manifest, monkeypatch, tmp_path) -> None:
    real, opened = serving.runtime.session.session_options, []

    def profiled(**options):
        made = real(**options)
        made.enable_profiling = True
        made.profile_file_prefix = str(tmp_path / f"session{len(opened)}")
        opened.append(made)
        return made

    monkeypatch.setattr(serving.runtime.session, "session_options", profiled)
    runtime, pool = on_device(bundle, manifest, max_batch=8, device="cuda")
    chain(runtime, pool, put(pool, IMAGES[:8]))
    for stage in runtime._stages:
        lanes = stage._lanes[8, True]
        ran = json.loads(Path(lanes._task.session.end_profiling()).read_text())
        kernels = {event["args"]["op_name"] for event in ran if "op_name" in event.get("args", {})}
        assert "ScatterND" in kernels or not stage.features
        assert not any(name.startswith("Memcpy") for name in kernels)
        (lane,) = lanes._idle
        crossing = sum(value.tensor_size_in_bytes() for value in lane._results.values())
        assert crossing == 8 * (4 + 10 * 4)
