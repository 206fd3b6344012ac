from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from queue import SimpleQueue

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.images.threads import DecodeThreads
from tests.serving.images.gates import ONE, Gate, entered, until

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it for each thread")
FOREVER = 1e6  # seconds of a rest


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


@linux
def test_threads_that_decode_yield_to_the_event_loop() -> None:
    def niceness() -> NDArray[np.uint8]:
        return np.array([os.getpriority(os.PRIO_PROCESS, 0)], np.uint8)

    async def scenario() -> int:
        threads = DecodeThreads(threads=1, max_memory=100)
        decoded = await threads.start(niceness, work=1, memory=1).future
        threads.close()
        return int(decoded[0])

    assert asyncio.run(scenario()) > os.getpriority(os.PRIO_PROCESS, 0)


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


def test_memory_is_given_back_after_each_dear_image() -> None:
    async def scenario() -> None:
        given_back: SimpleQueue[bool] = SimpleQueue()
        threads = DecodeThreads(1, 100, trim=lambda: given_back.put(True))
        await threads.start(lambda: ONE, work=9, memory=1, dear=True).future
        assert given_back.get(timeout=60)
        for _ in range(2):  # a thread takes a job after it has given back the memory of the last
            await threads.start(lambda: ONE, work=9, memory=1).future
        assert given_back.empty()
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


SCRIPT = """
import asyncio, threading
from serving.images.costly_wait import Rest
from serving.errors import ImageTooLargeError
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
