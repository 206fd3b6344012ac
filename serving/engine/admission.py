"""The entrance of the engine: slots taken and given back, and refusals as early as possible.

Everything here runs on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import perf_counter

from serving.engine.outcomes import Outcomes
from serving.engine.overload import DrainRate, Lag
from serving.engine.policy import Policy
from serving.engine.stage_threads import StageThreads
from serving.errors import PoolFullError
from serving.runtime.base import Slots

log = logging.getLogger(__name__)


class Admission:
    """Admits requests and frees their slots.

    Args:
        pool: The slots.
        stage_threads: The threads that run the stages.
        outcomes: Counter of refused requests.

    Attributes:
        lag: Time that a known answer waits for the event loop.
        drain_rate: Rate at which slots become free.
        idle: Event that is set while no slot is taken.
        make_room: Frees slots that only copies hold. Returns whether so many are free now.
    """

    def __init__(self, pool: Slots, stage_threads: StageThreads, outcomes: Outcomes) -> None:
        self._pool = pool
        self._stage_threads = stage_threads
        self._outcomes = outcomes
        self.drain_rate = DrainRate()
        self.lag = Lag()
        self.idle = asyncio.Event()
        self.idle.set()
        self.make_room: Callable[[int], bool] = lambda _: False

    def check_deadline(self, policy: Policy, count: int, age: float) -> None:
        """Refuse `count` requests of this age (seconds) that cannot reach the first exit in time.

        Raises:
            DeadlineError: The deadline leaves too little time, or is too short for any server.
        """
        left = policy.seconds_left(age)
        if left is None or self._stage_threads.reaches_first_exit(left, self.lag.seconds):
            return
        self.lag.decay()
        self._outcomes.count(policy.name, "expired", count)
        raise self._outcomes.expire(policy, "deadline_ms leaves no time to reach the first exit")

    def take(self, count: int, policy: Policy) -> list[int]:
        """Take slots for a call, or raise and take no slot.

        Raises:
            PoolFullError: Fewer than `count` are free. It says when to try again.
        """
        try:
            slots = self._pool.take(count)
        except PoolFullError as error:
            missing = count - self._pool.free
            if count <= self._pool.slots and self.make_room(missing):
                slots = self._pool.take(count)
                self.idle.clear()
                return slots
            self._outcomes.count(policy.name, "refused", count)
            seconds = self.drain_rate.seconds_until(missing, perf_counter())
            raise PoolFullError(str(error), seconds) from None
        self.idle.clear()
        return slots

    def take_free(self) -> int | None:
        """Take a slot for a copy, if one is free. `None`: there is no free slot."""
        if not self._pool.free:
            return None
        self.idle.clear()
        return self._pool.take(1)[0]

    def give(self, slots: Sequence[int]) -> None:
        """Give slots back. An error with one of them is logged and keeps no other."""
        if not slots:
            return
        for slot in slots:
            try:
                self._pool.give(slot)
            except Exception:
                log.exception("slot %d could not be given back", slot)
        self.drain_rate.freed(perf_counter(), len(slots))
        if self._pool.free == self._pool.slots:
            self.idle.set()

    def cancel(self, slots: Sequence[int], policy: Policy) -> None:
        """Count requests that were cancelled before they were submitted."""
        self._outcomes.count(policy.name, "cancelled", len(slots))


class Admitted:
    """A context of the slots of a call. It gives back those that are in the list at its end.

    A class, because every request enters one: a generator as a context takes far longer.
    """

    __slots__ = ("_admission", "_policy", "_slots")

    def __init__(self, admission: Admission, policy: Policy, slots: list[int]) -> None:
        self._admission = admission
        self._policy = policy
        self._slots = slots

    def __enter__(self) -> list[int]:
        return self._slots

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._slots:
            if kind is not None and issubclass(kind, asyncio.CancelledError):
                self._admission.cancel(self._slots, self._policy)
            self._admission.give(self._slots)
