"""Copies of answered requests, which run on in their slots while no request waits.

A copy takes over the slot of a request that was answered, with the features of its exit. It is
dropped when a request needs the slot. It delays a request by one small batch at most. All methods
run on the event loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Literal

from serving.engine.batch import Leaving
from serving.engine.policy import Policy
from serving.engine.request import Request
from serving.engine.stage_threads import StageThreads

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
        give: Gives slots back.
        slots: Number of all slots.

    Attributes:
        most: Most copies that should be under way.
    """

    def __init__(
        self, stage_threads: StageThreads, give: Callable[[Sequence[int]], None], slots: int
    ) -> None:
        self.most = max(1, slots // SHARE)
        self._stage_threads = stage_threads
        self._give = give
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
        copy = Request(policy, request.slot, now, now, request.call, [*request.opinions])
        self._under_way[copy] = done
        self._stage_threads.add([copy], background=True)
        return True

    def leave(self, leaving: Leaving) -> None:
        """End copies that are in no queue and no batch any more."""
        for copy in leaving.requests:
            done = self._under_way.pop(copy, None)
            if done is not None:
                finished = leaving.how == "finished" and copy.sound
                _call(done, copy, "finished" if finished else "failed")
        self._give([copy.slot for copy in leaving.requests])

    def make_room(self, slots: int) -> bool:
        """Drop copies for requests that need their slots. Return whether so many became free.

        The newest go first. Those in a batch give their slots back at its end.
        """
        return len(self) >= slots and self._drop(slots, "dropped") >= slots

    def close(self) -> None:
        """Drop all copies, and start no more."""
        self._closed = True
        self._drop(len(self), "stopped")

    def _drop(self, slots: int, end: End) -> int:
        freed: list[int] = []
        for copy in reversed([*self._under_way]):
            if len(freed) >= slots:
                break
            done = self._under_way.pop(copy)
            if self._stage_threads.drop(copy):
                freed.append(copy.slot)
            _call(done, copy, end)
        self._give(freed)
        return len(freed)


def _call(done: Done, copy: Request, end: End) -> None:
    try:
        done(copy, end)
    except Exception:
        log.exception("the end of a copy was not counted")
