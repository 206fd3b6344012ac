"""A worker's link to its supervisor, which ends."""

from __future__ import annotations

import asyncio
from multiprocessing import Pipe
from unittest.mock import Mock

import pytest

from serving.errors import NotReadyError
from serving.models.planner import Wish
from serving.processes.changes.linked import LinkedChanges


def test_a_change_fails_once_the_supervisor_listens_no_more() -> None:
    asyncio.run(_ask_and_end())


async def _ask_and_end() -> None:
    mine, theirs = Pipe()
    changes = LinkedChanges(Mock(), theirs)
    changes.start()
    waiting = asyncio.create_task(changes.make(Wish("cats")))
    await asyncio.to_thread(mine.recv)
    mine.close()
    with pytest.raises(NotReadyError, match="shutting down"):
        await waiting
    with pytest.raises(NotReadyError, match="shutting down"):
        await changes.make(Wish("cats"))
