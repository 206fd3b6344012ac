from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from offramp.bundle.manifest import ImageInput
from serving.errors import DecodersFullError, ImageTooLargeError
from serving.images.decoder import Decoder
from serving.images.rest import Rest
from serving.images.threads import DecodeThreads
from tests.timing import least_cpu_seconds

TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
ONE = np.zeros((1, 1, 3), np.uint8)
FOREVER = 1e6  # seconds of a rest


class Gate:
    """A decoding that ends when the gate is opened, and notes when it runs."""

    def __init__(self, log: list[str], name: str) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()
        self._log, self._name = log, name

    def __call__(self) -> NDArray[np.uint8]:
        self._log.append(self._name)
        self.entered.set()
        assert self.opened.wait(20)
        return ONE


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (threads set it)
            await asyncio.sleep(0.001)


async def entered(gate: Gate) -> None:
    await until(gate.entered.is_set)


def flat(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def test_cheap_images_are_decoded_first_and_few_pixels_at_once() -> None:
    async def scenario() -> list[str]:
        log: list[str] = []
        threads = DecodeThreads(threads=2, max_memory=100)
        gates = [Gate(log, name) for name in ("first", "large", "cheap", "small")]
        first = threads.start(gates[0], work=1, memory=60)
        await entered(gates[0])
        large = threads.start(gates[1], work=50, memory=90)
        cheap = threads.start(gates[2], work=2, memory=30)
        await entered(gates[2])
        small = threads.start(gates[3], work=3, memory=30)
        assert threads.work == 56
        assert log == ["first", "cheap"], "two threads, and the large one does not fit"
        for gate in gates:
            gate.opened.set()
        await asyncio.gather(*(job.future for job in (first, large, cheap, small)))
        assert threads.work == 0
        threads.close()
        return log

    assert asyncio.run(scenario())[:3] == ["first", "cheap", "small"]


def test_a_cancelled_job_ends_at_once_or_when_its_thread_does() -> None:
    async def scenario() -> None:
        log: list[str] = []
        threads = DecodeThreads(threads=1, max_memory=100)
        running, queued = Gate(log, "running"), Gate(log, "queued")
        first = threads.start(running, work=5, memory=1)
        second = threads.start(queued, work=7, memory=1)
        await entered(running)
        ended: list[bool] = []
        assert not threads.cancel(second)
        assert threads.work == 5
        assert threads.cancel(first), "its thread still runs it"
        first.when_ended(lambda: ended.append(True))
        assert not ended
        running.opened.set()
        await until(lambda: ended)
        assert threads.work == 0
        assert log == ["running"]
        threads.close()

    asyncio.run(scenario())


def test_a_thread_is_kept_free_of_dear_images() -> None:
    async def scenario() -> None:
        log: list[str] = []
        threads = DecodeThreads(threads=2, max_memory=100)
        gates = [Gate(log, name) for name in ("dear", "next", "cheap")]
        jobs = [threads.start(gate, work=9, memory=1, dear=True) for gate in gates[:2]]
        await entered(gates[0])
        jobs.append(threads.start(gates[2], work=10, memory=1))
        await entered(gates[2])
        assert log == ["dear", "cheap"]
        gates[0].opened.set()
        await entered(gates[1])
        for gate in gates:
            gate.opened.set()
        await asyncio.gather(*(job.future for job in jobs))
        threads.close()

    asyncio.run(scenario())


def test_one_thread_alone_decodes_dear_images_too() -> None:
    async def scenario() -> None:
        threads = DecodeThreads(threads=1, max_memory=100)
        assert await threads.start(lambda: ONE, work=9, memory=1, dear=True).future is ONE
        threads.close()

    asyncio.run(scenario())


def test_images_of_a_cheap_call_come_before_those_of_a_dear_one() -> None:
    async def scenario() -> list[str]:
        log: list[str] = []
        threads = DecodeThreads(threads=1, max_memory=100)
        gates = [Gate(log, name) for name in ("first", "dear", "cheap")]
        jobs = [threads.start(gates[0], work=1, memory=1)]
        jobs.append(threads.start(gates[1], work=5, memory=1, dear=True))
        jobs.append(threads.start(gates[2], work=7, memory=1))
        for gate in gates:
            gate.opened.set()
        await asyncio.gather(*(job.future for job in jobs))
        threads.close()
        return log

    assert asyncio.run(scenario()) == ["first", "cheap", "dear"]


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


def test_a_dear_image_that_is_cancelled_gives_its_place_to_the_next() -> None:
    async def scenario() -> None:
        log: list[str] = []
        threads = DecodeThreads(2, 100)
        running, queued, next_one = (Gate(log, name) for name in ("running", "queued", "next"))
        first = threads.start(running, work=9, memory=1, dear=True)
        second = threads.start(queued, work=9, memory=1, dear=True)
        third = threads.start(next_one, work=10, memory=1, dear=True)
        await entered(running)
        assert not threads.cancel(second)
        assert threads.cancel(first)
        assert threads.work == 19
        running.opened.set()
        await entered(next_one)
        next_one.opened.set()
        assert await third.future is ONE
        assert threads.work == 0
        assert log == ["running", "next"]
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


def test_a_dear_image_that_waits_for_memory_takes_no_place() -> None:
    async def scenario() -> None:
        log: list[str] = []
        threads = DecodeThreads(2, 100)
        cheap, dear = Gate(log, "cheap"), Gate(log, "dear")
        first = threads.start(cheap, work=1, memory=60)
        await entered(cheap)
        waiting = threads.start(dear, work=9, memory=60, dear=True)
        for _ in range(3):  # each of them asks the queue again
            await threads.start(lambda: ONE, work=2, memory=10).future
        assert log == ["cheap"]
        cheap.opened.set()
        dear.opened.set()
        await first.future
        assert await waiting.future is ONE
        threads.close()

    asyncio.run(scenario())


def test_after_the_close_nothing_waits() -> None:
    async def scenario() -> None:
        log: list[str] = []
        threads = DecodeThreads(1, 100, lambda _seconds, _work: FOREVER)
        running = Gate(log, "running")
        first = threads.start(running, work=9, memory=1, dear=True)
        queued = threads.start(Gate(log, "queued"), work=9, memory=1, dear=True)
        await entered(running)
        threads.close()
        assert queued.future.cancelled()
        running.opened.set()
        assert await first.future is ONE, "what runs is answered"
        assert threads.start(Gate(log, "late"), work=1, memory=1).future.cancelled()
        assert log == ["running"]

    asyncio.run(scenario())


def test_a_cancelled_decoding_holds_its_bytes_until_it_ends() -> None:
    held: list[int] = []

    async def scenario() -> None:
        decoder = Decoder(TARGET, 25_000_000, 1, held.append)
        file = flat(3500)
        task = asyncio.ensure_future(decoder.decode(decoder.plan([file])))
        await asyncio.sleep(0)  # a thread takes it, for some tens of milliseconds
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert held == [len(file)]
        await until(lambda: len(held) == 2)
        assert held == [len(file), -len(file)]
        decoder.close()

    asyncio.run(scenario())


def test_images_far_larger_than_their_bytes_are_refused_before_decoding() -> None:
    decoder = Decoder(TARGET, 25_000_000, 1)
    bombs = [flat(1500)] * 16

    def refuse() -> None:
        with pytest.raises(ImageTooLargeError, match="send fewer images"):
            decoder.plan(bombs)

    assert least_cpu_seconds(refuse, 0.05) < 0.05
    assert decoder.plan(bombs[:7])
    decoder.close()


def test_large_images_are_refused_while_many_are_queued() -> None:
    async def scenario() -> None:
        decoder = Decoder(TARGET, 25_000_000, 1)
        bombs = [flat(1500)] * 7
        tasks, refused = [], 0
        for _ in range(16):
            try:
                plans = decoder.plan(bombs)
            except DecodersFullError:
                refused += 1
            else:
                tasks.append(asyncio.ensure_future(decoder.decode(plans)))
                await asyncio.sleep(0)
        assert refused >= 7
        assert decoder.plan([flat(64)]), "small images are still taken"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        decoder.close()

    asyncio.run(scenario())


class Overloaded(Rest):
    """A rest that is needed, as on a server that refuses cheap requests."""

    def __init__(self) -> None:
        self.answers = 0
        super().__init__(lambda: True, lambda: self.answers)
        for _ in range(100):
            self.answers += 20
            self.arrived()


def test_few_dear_images_wait_while_the_server_refuses_others() -> None:
    async def scenario() -> None:
        decoder = Decoder(TARGET, 25_000_000, 1, rest=Overloaded())
        dear = [flat(1400)]
        tasks = []
        for _ in range(2):  # the first is decoded, and the second waits
            tasks.append(asyncio.ensure_future(decoder.decode(decoder.plan(dear))))
            await asyncio.sleep(0)
        with pytest.raises(DecodersFullError, match="try again"):
            decoder.plan(dear)
        (cheap,) = await decoder.decode(decoder.plan([flat(64)]))
        assert cheap.shape == (32, 32, 3)
        decoder.drain()
        for images in await asyncio.gather(*tasks):
            assert images[0].shape == (32, 32, 3)
        decoder.close()

    asyncio.run(scenario())


def test_a_call_of_many_cheap_images_is_dear() -> None:
    async def scenario() -> None:
        decoder = Decoder(TARGET, 25_000_000, 1, rest=Overloaded())
        await decoder.decode(decoder.plan([flat(400)] * 12))
        waiting = asyncio.ensure_future(decoder.decode(decoder.plan([flat(1100)])))
        assert len(await decoder.decode(decoder.plan([flat(400)]))) == 1
        assert not waiting.done()
        decoder.drain()
        assert len(await waiting) == 1
        decoder.close()

    asyncio.run(scenario())


SCRIPT = """
import asyncio, threading
from serving.images.rest import Rest
from serving.images.threads import DecodeThreads
async def main():
    threads = DecodeThreads(1, 100)
    entered = threading.Event()
    def forever():
        entered.set()
        threading.Event().wait()
    threads.start(forever, 1, 1)
    while not entered.is_set():
        await asyncio.sleep(.001)
    threads.close()
asyncio.run(main())
"""


def test_the_end_of_a_process_does_not_wait_for_a_decoding() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], timeout=30, check=False)
    assert run.returncode == 0
