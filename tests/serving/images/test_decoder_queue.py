"""Images of a decoder on its threads: what is taken, what waits, what is refused."""

from __future__ import annotations

import asyncio
import io

import pytest
from PIL import Image

from offramp.bundle.manifest import ImageInput
from serving.errors import DecodersFullError, ImageTooLargeError
from serving.images.costly_wait import Rest
from serving.images.decoder import Decoder
from tests.serving.images.gates import until
from tests.timing import least_cpu_seconds

TARGET = ImageInput(height=32, width=32, fit="crop", filter="bilinear")


def flat(side: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


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
