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
from serving.images.threads import DecodeThreads
from tests.timing import least_cpu_seconds

TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")
ONE = np.zeros((1, 1, 3), np.uint8)


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


SCRIPT = """
import asyncio, threading
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
