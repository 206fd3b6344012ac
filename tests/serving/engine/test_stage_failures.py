"""Stages that fail, and the requests that fail with them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Never

import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.engine.policy import Policy
from serving.errors import StageError
from serving.runtime.base import Runtime, StageOutput, Tensors
from tests.serving.engines import (
    AT_ONCE,
    NEVER_EARLY,
    WHOLE_NETWORK,
    MakeImages,
    answers_in,
    classify,
    ends_of,
    engine_of,
    hang_up_under_way,
)
from tests.serving.servers import GatedRuntime


def test_a_whole_network_can_fail_and_its_clients_can_hang_up(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, threads=1, latency=WHOLE_NETWORK) as engine:
            gated.fail_at = 2
            with pytest.raises(StageError):
                await classify(engine, images(2, 1), NEVER_EARLY)
            assert engine.counted("full", "failed") == 2
            gated.fail_at = None
            await hang_up_under_way(engine, gated, images(3, 1), 2)
            assert (await classify(engine, images(1, 1), NEVER_EARLY))[0].exit == 4
            assert gated.whole == [2, 3, 1]

    asyncio.run(run())
    assert "all stages failed" in caplog.text


def test_a_stage_that_fails_fails_its_batch_alone(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with engine_of(gated, manifest, threads=1) as engine:
            gated.fail_at = 1
            calls = [(images(2, 1), NEVER_EARLY), (images(2, 2), AT_ONCE)]
            failed, fine = await ends_of(engine, calls)
            assert isinstance(failed, StageError)
            assert [answer.exit for answer in answers_in(fine)] == [1, 1]
            gated.fail_at = None
            assert (await classify(engine, images(1, 1), NEVER_EARLY))[0].exit == 4
            assert engine.counted("full", "failed") == 2

    asyncio.run(run())
    assert "stage 2 failed" in caplog.text
    assert "the device fell over" in caplog.text


def test_features_that_cannot_be_kept_fail_the_batch(
    runtime: Runtime,
    manifest: Manifest,
    images: MakeImages,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        async with engine_of(runtime, manifest) as engine:

            def full(*_: object) -> Never:
                raise MemoryError

            monkeypatch.setattr(engine.pool, "scatter", full)
            with pytest.raises(StageError):
                await classify(engine, images(1, 1), NEVER_EARLY)
            assert engine.counted("full", "failed") == 1

    asyncio.run(run())
    assert "stage 1 failed" in caplog.text


def test_a_confidence_that_is_not_finite_fails_its_request_alone(
    gated: GatedRuntime, manifest: Manifest, images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., StageOutput] = gated.run

    def run_with_nan(stage: int, inputs: Tensors, *, head: bool = True) -> StageOutput:
        output = real(stage, inputs, head=head)
        if stage == 0:
            assert output.confidence is not None
            output.confidence[0] = np.nan
        return output

    monkeypatch.setattr(gated, "run", run_with_nan)
    never_sure = Policy("full", "full", (1.0, 1.0, 1.0, 0.0))

    async def run() -> None:
        async with engine_of(gated, manifest, threads=1) as engine:
            calls = [([image], never_sure) for image in images(3, 1)]
            first, *others = await ends_of(engine, calls)
            assert isinstance(first, StageError)
            assert [answers_in(end)[0].exit for end in others] == [4, 4]

    asyncio.run(run())
