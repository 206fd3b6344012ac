"""Tasks that nothing awaits are kept until they end."""

from __future__ import annotations

import asyncio
import gc

from offramp.tasks import start_task


def test_a_task_is_in_the_set_until_it_ends() -> None:
    tasks: set[asyncio.Task[None]] = set()

    async def run() -> None:
        ended, go = [], asyncio.Event()

        async def work() -> None:
            await go.wait()
            ended.append(True)

        start_task(work(), tasks)
        await asyncio.sleep(0)
        gc.collect()
        (task,) = tasks
        go.set()
        await task
        await asyncio.sleep(0)
        assert ended == [True]

    asyncio.run(run())
    assert not tasks
