"""Copies in the engine of another version, with the real runtime: what is compared and dropped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.policy import Policy, resolve
from serving.errors import StageError
from serving.runtime.base import Runtime
from serving.runtime.cpu import CpuRuntime
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    MakeImages,
    classify,
    hang_up_under_way,
    until,
)
from tests.serving.servers import GatedRuntime
from tests.serving.shadows import shadowing


@pytest.fixture(scope="module")
def runtime(bundle: Path, manifest: Manifest) -> Runtime:
    return CpuRuntime(bundle, manifest)


@pytest.fixture(scope="module")
def second(bundle: Path, manifest: Manifest) -> GatedRuntime:
    """The runtime of the shadow."""
    return GatedRuntime(bundle, manifest)


@pytest.fixture
def other(second: GatedRuntime) -> Iterator[GatedRuntime]:
    second.batches.clear()
    yield second
    second.fail_at = None
    second.open()


def test_copies_are_compared_with_the_answers(
    runtime: Runtime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with shadowing(runtime, manifest, other) as pair:
            answers = await classify(pair.served, images(24, 7), resolve(manifest, budget="medium"))
            await pair.settled()
            exits = Counter(answer.exit for answer in answers)
            assert len(exits) > 1
            assert pair.compared("medium") == (24, 0)
            assert pair.exits("served") == pair.exits("shadow") == exits
            flops = sum(answer.flops for answer in answers)
            assert pair.flops("served") == pair.flops("shadow") == flops
            assert pair.times("served") == pair.times("shadow") == 24
            assert pair.shadowed.counted("medium", "answered") == 0
            assert pair.dropped() == {}

    asyncio.run(run())


def test_a_copy_follows_the_budgets_and_the_labels_of_its_own_version(
    runtime: Runtime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    budgets = {**manifest.budgets, "low": manifest.budgets["full"]}
    labels = (*manifest.labels[1:], manifest.labels[0])
    version = manifest.model_copy(update={"budgets": budgets, "labels": labels})
    policy = replace(resolve(manifest, budget="low"), thresholds=(0.0,) * 4)

    async def run() -> None:
        async with shadowing(runtime, manifest, other, version) as pair:
            await classify(pair.served, images(6, 7), policy)
            await pair.settled()
            assert pair.exits("served") == {1: 6}
            assert pair.exits("shadow") == {4: 6}
            assert pair.flops("shadow") == 6 * manifest.full_flops
            assert sum(pair.compared("low")) == 6

    asyncio.run(run())


def test_classes_are_compared_by_their_labels(
    runtime: Runtime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    labels = (*manifest.labels[1:], manifest.labels[0])
    version = manifest.model_copy(update={"labels": labels})

    async def run() -> None:
        async with shadowing(runtime, manifest, other, version) as pair:
            await classify(pair.served, images(6, 7), NEVER_EARLY)
            await pair.settled()
            assert pair.compared("full") == (0, 6)

    asyncio.run(run())


def test_copies_wait_while_the_other_engine_has_a_request(
    gated: GatedRuntime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    some = images(4, 3)

    async def run() -> None:
        async with shadowing(gated, manifest, other) as pair:
            gated.shut(3)
            held = asyncio.create_task(classify(pair.served, images(1, 1), NEVER_EARLY))
            await until(gated.entered[3].is_set)
            assert len(await classify(pair.served, some, AT_ONCE)) == 4
            assert len(pair.shadowed.copies) == 4
            some[:] = 0  # the copies have images of their own
            await asyncio.sleep(0.05)
            assert other.batches == []
            gated.open()
            await held
            await pair.settled()
            assert len(other.batches) > 0
            assert pair.compared("full") == (1, 0)
            assert sum(pair.compared("low")) == 4

    asyncio.run(run())


def test_a_budget_that_the_version_does_not_have_is_dropped(
    runtime: Runtime,
    other: GatedRuntime,
    manifest: Manifest,
    promise_bundle: Path,
    images: MakeImages,
) -> None:
    promising = read_manifest(promise_bundle)

    async def run() -> None:
        async with shadowing(runtime, promising, other, manifest) as pair:
            await classify(pair.served, images(3, 1), resolve(promising, promise="95%"))
            await pair.settled()
            assert pair.dropped() == {"budget": 3}

    asyncio.run(run())


@pytest.mark.parametrize("policy", [NEVER_EARLY, replace(NEVER_EARLY, deadline=0.1)])
def test_a_request_that_ends_early_is_not_compared(
    policy: Policy, gated: GatedRuntime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with shadowing(gated, manifest, other) as pair:
            if policy.deadline is None:
                await hang_up_under_way(pair.served, gated, images(1, 1), 1)
            else:
                gated.shut(2)
                await classify(pair.served, images(1, 1), policy)
                gated.open()
            reason = "cancelled" if policy.deadline is None else "cut_short"
            assert pair.dropped() == {reason: 1}

    asyncio.run(run())
    assert other.batches == []


def test_a_failing_shadow_fails_no_request_and_a_failed_request_has_no_copy(
    gated: GatedRuntime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with shadowing(gated, manifest, other) as pair:
            other.fail_at = 0
            assert len(await classify(pair.served, images(3, 1), NEVER_EARLY)) == 3
            await pair.settled()
            assert pair.dropped() == {"failed": 3}
            gated.fail_at = 1
            with pytest.raises(StageError):
                await classify(pair.served, images(1, 1), NEVER_EARLY)
            assert pair.dropped() == {"failed": 4}

    asyncio.run(run())


def test_copies_take_free_slots_only_and_an_eighth_of_them(
    runtime: Runtime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with shadowing(runtime, manifest, other, slots=16) as pair:
            with pair.shadowed.admit(16, AT_ONCE):
                await classify(pair.served, images(1, 1), AT_ONCE)
            assert pair.dropped() == {"slot": 1}
            other.shut(0)
            await classify(pair.served, images(6, 1), AT_ONCE)
            assert len(pair.shadowed.copies) == 2
            other.open()
            await pair.settled()
            assert sum(pair.compared("low")) == 2
            assert pair.dropped() == {"slot": 1}

    asyncio.run(run())


def test_a_shadow_that_ends_copies_no_more(
    gated: GatedRuntime, other: GatedRuntime, manifest: Manifest, images: MakeImages
) -> None:
    async def run() -> None:
        async with shadowing(gated, manifest, other) as pair:
            gated.shut(1)
            held = asyncio.create_task(classify(pair.served, images(2, 1), NEVER_EARLY))
            await until(gated.entered[1].is_set)
            pair.served.stop_copying(pair.shadow)
            pair.shadow.close()
            assert pair.dropped() == {"stopped": 2}
            gated.open()
            assert len(await held) == 2
            pair.served.start_copying(pair.shadow)
            pair.shadowed.copies.close()
            await classify(pair.served, images(1, 1), AT_ONCE)
            assert pair.dropped() == {"stopped": 3}

    asyncio.run(run())
    assert other.batches == []
