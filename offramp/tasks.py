"""Tasks that nothing awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine


def start_task(coroutine: Coroutine[object, object, None], tasks: set[asyncio.Task[None]]) -> None:
    """Run a coroutine as a task, which is in a set until it ends.

    The event loop alone does not keep a task from garbage collection.

    Args:
        coroutine: The coroutine.
        tasks: The set, which the caller keeps.
    """
    task = asyncio.get_running_loop().create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
