"""Copies of answered requests, which run in free slots while no request waits.

A copy takes over the slot of a request that was answered, with the features of its exit, or begins
anew with the image, in a slot of another engine. It is dropped when a request needs the slot. It
delays a request by one small batch at most. All methods run on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.engine.admission import Admission
from serving.engine.batch import Leaving
from serving.engine.policy import Policy
from serving.engine.request import Request
from serving.engine.scheduling.background_queue import BackgroundQueue
from serving.engine.stage_threads import StageThreads
from serving.runtime.base import Slots

SHARE = 8  # copies take at most one of so many slots
GATHERED = 8  # copies that are worth a batch
End = Literal["finished", "dropped", "failed", "stopped"]
Done = Callable[[Request, End], None]
log = logging.getLogger(__name__)


def gathered(slots: int) -> int:
    """Return the number of copies that wait for no others: at most half of those there can be."""
    return max(1, min(GATHERED, slots // SHARE // 2))


class Copies:
    """The copies under way.

    Args:
        stage_threads: The threads that run the stages.
        pool: All slots.
        admission: Takes slots and gives them back.
        queue: The queues of copies.
        wake: Wakes the threads at the end of this turn of the event loop.

    Attributes:
        most: Most copies that should be under way.
    """

    def __init__(
        self,
        stage_threads: StageThreads,
        pool: Slots,
        admission: Admission,
        queue: BackgroundQueue,
        wake: Callable[[], None],
    ) -> None:
        self.most = max(1, pool.slots // SHARE)
        self._stage_threads = stage_threads
        self._pool = pool
        self._admission = admission
        self._queue = queue
        self._wake = wake
        self._under_way: dict[Request, Done] = {}
        self._closed = False

    def __len__(self) -> int:
        """Return the number of copies, each with a slot."""
        return len(self._under_way)

    def start(self, request: Request, policy: Policy, done: Done) -> bool:
        """Run a copy of an answered request from the next stage on, and take over its slot.

        Args:
            request: The request. The features of its exit were kept.
            policy: The policy of the copy.
            done: Called once, with the copy and its end. Finished copies have new opinions.

        Returns:
            False if the server is stopping. The slot is then not taken over.
        """
        if self._closed:
            return False
        now = perf_counter()
        self._run(Request(policy, request.slot, now, now, request.call, [*request.opinions]), done)
        return True

    def begin(
        self, image: NDArray[np.uint8], request: Request, policy: Policy, done: Done
    ) -> End | None:
        """Run a copy of a request of another engine from the first stage on, in a free slot.

        Args:
            image: Its image, uint8 [H, W, 3].
            request: The request.
            policy: The policy of the copy.
            done: Called once, with the copy and its end, unless an end is returned.

        Returns:
            `stopped` if the server is stopping, `dropped` if no slot is free for a copy.
        """
        if self._closed:
            return "stopped"
        if len(self) >= self.most or (slot := self._admission.take_free()) is None:
            return "dropped"
        self._pool.put(slot, image)
        now = perf_counter()
        self._run(Request(policy, slot, now, now, request.call), done)
        return None

    def give_way(self, elsewhere: Callable[[], bool]) -> None:
        """Run copies only while other engines have no request, which `elsewhere` says."""
        self._queue.elsewhere = elsewhere

    def look(self) -> None:
        """Run copies that waited for other engines, if these have no request now."""
        if self._under_way and not self._queue.elsewhere():
            self._wake()

    def leave(self, leaving: Leaving) -> None:
        """End copies that are in no queue and no batch any more."""
        for copy in leaving.requests:
            done = self._under_way.pop(copy, None)
            if done is not None:
                finished = leaving.how == "finished" and copy.sound
                _call(done, copy, "finished" if finished else "failed")
        self._admission.give([copy.slot for copy in leaving.requests])

    def make_room(self, slots: int) -> bool:
        """Drop copies for requests that need their slots. Return whether so many became free.

        The newest go first. Those in a batch give their slots back at its end.
        """
        return len(self) >= slots and self._drop(slots, "dropped") >= slots

    def close(self) -> None:
        """Drop all copies, and start no more."""
        self._closed = True
        self._drop(len(self), "stopped")

    def _run(self, copy: Request, done: Done) -> None:
        self._under_way[copy] = done
        self._stage_threads.add([copy], background=True)
        self._wake()

    def _drop(self, slots: int, end: End) -> int:
        freed: list[int] = []
        for copy in reversed([*self._under_way]):
            if len(freed) >= slots:
                break
            done = self._under_way.pop(copy)
            if self._stage_threads.drop(copy):
                freed.append(copy.slot)
            _call(done, copy, end)
        self._admission.give(freed)
        return len(freed)


def _call(done: Done, copy: Request, end: End) -> None:
    try:
        done(copy, end)
    except Exception:
        log.exception("the end of a copy was not counted")
