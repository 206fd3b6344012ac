"""An engine that runs in this process: an event loop in a thread, and threads that decode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from threading import Lock, Thread
from time import perf_counter

import numpy as np

from offramp.bundle.manifest import ImageInput
from offramp.errors import OfframpError
from offramp.in_process.outcomes import CLOSED, Outcome, load, outcomes_of, stream_chunks
from offramp.inputs.images import ImageSource, Pixels
from serving.engine.engine import Engine
from serving.engine.policy import Policy
from serving.engine.request import Answer
from serving.errors import DeadlineError, NotReadyError, PoolFullError, StageError
from serving.settings import Settings

CHUNK = 32  # images that are decoded and enter the engine together
AHEAD = 2  # chunks that are decoded while all slots are taken
PART = 4  # images decoded in one task at least, where there are as many
RETRY_SECONDS = 0.001  # until a slot is free that a batch of an expired request still holds


class EngineThread:
    """Runs chunks of images through an engine that belongs to it alone.

    Args:
        engine: The engine. No other code admits requests to it.
        target: Size of the images that stage 1 reads, and how an image is brought to it.
        settings: Settings of the engine.
    """

    def __init__(self, engine: Engine, target: ImageInput, settings: Settings) -> None:
        self._engine = engine
        self._target = target
        self._shape = (target.height, target.width, 3)
        self._settings = settings
        self._decoders = ThreadPoolExecutor(settings.threads, "decode")
        self._room = _Room(settings.slots)
        self._closing = Lock()
        self._loop = _new_loop()
        self._thread = Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()

    def stream(
        self, images: Iterator[ImageSource], policy: Policy, arrived: float | None = None
    ) -> Iterator[Outcome]:
        """Run images in chunks, so many at a time that no slot is idle.

        Args:
            images: Images. They are read a bounded number ahead.
            policy: The policy of each of them.
            arrived: Time from which deadlines count, by `time.perf_counter`. `None`: the time when
                the decoding of each image starts.

        Yields:
            The outcome of each image, in their order.

        Raises:
            NotReadyError: This engine is closed.
        """
        slots = self._settings.slots
        size = 1 if policy.deadline is not None else min(CHUNK, slots)  # each has its own deadline
        most = -(-slots // size) + AHEAD
        return stream_chunks(images, size, most, lambda chunk: self._submit(chunk, policy, arrived))

    def close(self) -> None:
        """Wait for the images in the engine, then stop all threads. A second call does nothing."""
        with self._closing:
            if self._loop.is_closed():
                return
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._decoders.shutdown()

    def _submit(
        self, chunk: Sequence[ImageSource], policy: Policy, arrived: float | None
    ) -> Future[list[Outcome]]:
        with self._closing:
            if self._loop.is_closed():
                raise NotReadyError(CLOSED)
            return asyncio.run_coroutine_threadsafe(self._run(chunk, policy, arrived), self._loop)

    async def _end(self) -> None:
        await self._engine.drain()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)  # those that decode are refused next

    async def _run(
        self, chunk: Sequence[ImageSource], policy: Policy, arrived: float | None
    ) -> list[Outcome]:
        started = perf_counter()
        loaded = await self._load(chunk)
        decode_seconds = perf_counter() - started
        pixels = [each for each in loaded if not isinstance(each, OfframpError)]
        since = started if arrived is None else arrived
        answers = await self._answers(pixels, policy, since)
        return outcomes_of(loaded, answers, decode_seconds)

    async def _load(self, chunk: Sequence[ImageSource]) -> list[Pixels | OfframpError]:
        if all(isinstance(each, np.ndarray) and self._fits(each) for each in chunk):
            return [*chunk]  # type: ignore[list-item] # all are arrays
        size = max(PART, -(-len(chunk) // self._settings.threads))
        parts = [chunk[start : start + size] for start in range(0, len(chunk), size)]
        loop = asyncio.get_running_loop()
        tasks = [loop.run_in_executor(self._decoders, self._load_part, part) for part in parts]
        return [each for part in await asyncio.gather(*tasks) for each in part]

    def _fits(self, pixels: Pixels) -> bool:
        return pixels.shape == self._shape and pixels.dtype == np.uint8

    def _load_part(self, part: Sequence[ImageSource]) -> list[Pixels | OfframpError]:
        return [load(source, self._target, self._settings) for source in part]

    async def _answers(
        self, pixels: Sequence[Pixels], policy: Policy, arrived: float
    ) -> Sequence[Answer | OfframpError]:
        if not pixels:
            return []
        try:
            async with self._room.of(len(pixels)):
                return await self._classify(pixels, policy, arrived)
        except DeadlineError as error:
            return [error] * len(pixels)
        except StageError as error:
            if len(pixels) == 1:
                return [error]
        # One image can fail a whole batch. Each alone tells which one did.
        alone = [await self._answers([each], policy, arrived) for each in pixels]
        return [answer for answers in alone for answer in answers]

    async def _classify(
        self, pixels: Sequence[Pixels], policy: Policy, arrived: float
    ) -> list[Answer]:
        while True:
            try:
                with self._engine.admit(len(pixels), policy) as slots:
                    return await self._engine.classify(slots, pixels, policy, arrived)
            except PoolFullError:  # batches hold slots of requests that missed their deadline
                await asyncio.sleep(RETRY_SECONDS)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ModuleNotFoundError:  # it does not exist for every system
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class _Room:
    """Slots, given in the order in which they were requested."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._turn = asyncio.Lock()
        self._given = asyncio.Event()

    @asynccontextmanager
    async def of(self, count: int) -> AsyncIterator[None]:
        async with self._turn:
            while self._free < count:
                self._given.clear()
                await self._given.wait()
            self._free -= count
        try:
            yield
        finally:
            self._free += count
            self._given.set()
