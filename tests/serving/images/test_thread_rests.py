"""Rests of decoding threads after dear images."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.errors import ImageTooLargeError
from serving.images.threads import DecodeThreads
from tests.serving.images.gates import ONE, Gate, entered

FOREVER = 1e6  # seconds of a rest


def test_in_a_rest_cheap_images_are_decoded_and_dear_ones_wait() -> None:
    async def scenario() -> None:
        log: list[str] = []
        seen: list[tuple[float, float]] = []

        def rest(seconds: float, work: float) -> float:
            seen.append((seconds, work))
            return FOREVER

        threads = DecodeThreads(2, 100, rest)
        await threads.start(lambda: ONE, work=9, memory=1, dear=True).future
        dear, cheap = Gate(log, "dear"), Gate(log, "cheap")
        dear.opened.set()
        cheap.opened.set()
        waiting = threads.start(dear, work=9, memory=1, dear=True)
        await threads.start(cheap, work=3, memory=1).future
        assert log == ["cheap"]
        assert len(seen) == 1, "a cheap image begins no rest"
        assert seen[0][0] > 0
        assert seen[0][1] == 0
        threads.drain()
        assert await waiting.future is ONE
        assert await threads.start(dear, work=9, memory=1, dear=True).future is ONE, "no new rest"
        threads.close()

    asyncio.run(scenario())


def test_a_rest_ends_by_itself() -> None:
    async def scenario() -> None:
        threads = DecodeThreads(1, 100, lambda _seconds, _work: 0.001)
        async with asyncio.timeout(20):
            for _ in range(3):
                await threads.start(lambda: ONE, work=9, memory=1, dear=True).future
        threads.close()

    asyncio.run(scenario())


def test_a_longer_rest_replaces_a_shorter_one() -> None:
    async def scenario() -> None:
        log: list[str] = []
        rests = iter([FOREVER / 2, FOREVER, 0.0])
        threads = DecodeThreads(3, 100, lambda _seconds, _work: next(rests))
        gates = [Gate(log, name) for name in ("first", "second", "third")]
        jobs = [threads.start(gate, work=9, memory=1, dear=True) for gate in gates]
        for gate, job in zip(gates[:2], jobs[:2], strict=True):
            await entered(gate)
            gate.opened.set()
            await job.future
        await threads.start(lambda: ONE, work=1, memory=1).future
        assert log == ["first", "second"]
        gates[2].opened.set()
        threads.drain()
        await jobs[2].future
        threads.close()

    asyncio.run(scenario())


def test_a_dear_image_that_fails_begins_a_rest_and_frees_its_thread() -> None:
    async def scenario() -> None:
        def fail() -> NDArray[np.uint8]:
            raise ImageTooLargeError("of too many parts")

        threads = DecodeThreads(1, 100, lambda _seconds, _work: FOREVER)
        with pytest.raises(ImageTooLargeError, match="too many parts"):
            await threads.start(fail, work=9, memory=1, dear=True).future
        assert threads.work == 0
        waiting = threads.start(lambda: ONE, work=9, memory=1, dear=True)
        assert await threads.start(lambda: ONE, work=1, memory=1).future is ONE
        assert not waiting.running
        threads.close()

    asyncio.run(scenario())


def test_a_dear_image_that_waits_in_a_rest_can_be_cancelled() -> None:
    async def scenario() -> None:
        threads = DecodeThreads(1, 100, lambda _seconds, _work: FOREVER)
        await threads.start(lambda: ONE, work=9, memory=1, dear=True).future
        waiting = threads.start(lambda: ONE, work=9, memory=1, dear=True)
        assert threads.work == 9
        assert not threads.cancel(waiting)
        assert threads.work == 0
        assert waiting.future.cancelled()
        threads.drain()
        assert await threads.start(lambda: ONE, work=9, memory=1, dear=True).future is ONE
        threads.close()

    asyncio.run(scenario())
