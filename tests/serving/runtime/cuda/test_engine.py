"""Engines and servers with the runtime for CUDA, here on the CPU's provider."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from offramp.bundle.manifest import Manifest
from serving.engine.policy import Policy, resolve
from serving.engine.request import Answer
from serving.errors import DeadlineError, PoolFullError
from serving.observe.metrics import OUTCOMES, Outcome
from serving.runtime.base import Runtime, Slots, StageOutput, Tensors
from serving.runtime.cpu import CpuRuntime
from tests.serving.engines import AT_ONCE, BUDGETS, WatchedEngine, classify, engine_of, until
from tests.serving.runtime.devices import IMAGES, on_device
from tests.serving.servers import Encode, Running, Serve
from tests.serving.small_bundle import random_images


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
