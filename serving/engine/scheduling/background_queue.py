"""The queues of copies, which run one small batch at a time, while no request waits.

A batch of one copy takes more time for each than a batch of several. Copies therefore gather until
there are enough of them, the first has waited long, or the server is idle. Then all of them run on
to the last exit, from the shallowest stage on, so that they are together in the deeper stages,
which cost most. Copies that come meanwhile join if they are not behind. No batch starts while
another engine of the process has a request.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice

from serving.engine.batch import Batch
from serving.engine.latency import Latency
from serving.engine.request import Request

MAX_SECONDS = 5e-3  # of a batch of several copies, because a new request waits for its end
MAX_WAIT = 5.0  # seconds that a copy waits for others
IDLE_SECONDS = 0.02  # without requests, after which copies wait for no others
LEAST_WAIT = 1e-3  # seconds before a thread looks again


class BackgroundQueue:
    """The copies that wait for each stage, in the order in which they came.

    Args:
        stages: Number of stages.
        max_batch: Most copies in one batch.
        gather: Number of copies, at all stages, that wait for no others.

    Attributes:
        waiting: Number of copies in the queues.
        runs: A batch of copies runs. Another thread then stays free for requests.
        idle_since: Time since which no request waits or runs. Infinite: there are requests.
        elsewhere: Says whether another engine of the process has a request.
    """

    def __init__(self, stages: int, max_batch: int, gather: int = 1) -> None:
        # Dictionaries as ordered sets: first in, first out, and fast to remove from.
        self._queues: list[dict[Request, None]] = [{} for _ in range(stages)]
        self._max_batch = max_batch
        self._gather = gather
        self._next = stages  # shallowest stage that copies which run together have still to run
        self.waiting = 0
        self.runs = False
        self.idle_since = math.inf
        self.elsewhere: Callable[[], bool] = lambda: False
        self._held = False  # copies wait for another engine

    def add(self, copy: Request) -> None:
        """Queue a copy for its stage."""
        self._queues[copy.stage][copy] = None
        self.waiting += 1

    def remove(self, copy: Request) -> bool:
        """Remove a copy. Return whether it was in a queue."""
        for queue in self._queues:
            if copy in queue:
                del queue[copy]
                self.waiting -= 1
                return True
        return False

    def schedule(self, latency: Latency, now: float) -> Batch | None:
        """Return the next batch, or `None` if one runs, or all copies wait for others.

        They wait for other copies, or for the requests of another engine.
        """
        if self.runs or not self.waiting:
            return None
        self._held = self.elsewhere()
        if self._held:
            self.idle_since = math.inf
            return None
        if not any(self._queues[self._next :]):
            if self.waiting < self._gather and now < self._due():
                return None
            self._next = 0
        stage = next(k for k in range(self._next, len(self._queues)) if self._queues[k])
        queue = self._queues[stage]
        head = any(copy.policy.asks[stage] for copy in queue)
        chosen = tuple(islice(queue, self._size(stage, latency, head=head)))
        for copy in chosen:
            del queue[copy]
        self.waiting -= len(chosen)
        self.runs = True
        self._next = stage if queue else stage + 1
        return Batch(stage, chosen, head, background=True)

    def seconds_to_next(self, now: float) -> float | None:
        """Return the seconds after which copies wait for no others, or `None` while others run.

        A thread that ends a batch looks for copies itself.
        """
        if self.runs or not self.waiting:
            return None
        if self._held:
            return IDLE_SECONDS
        if self.idle_since == math.inf:
            return None
        return max(LEAST_WAIT, self._due() - now)

    def _due(self) -> float:
        """Return the time at which the copies in the queues run, even if no more come."""
        first = min(copy.submitted for queue in self._queues for copy in queue)
        return min(first + MAX_WAIT, self.idle_since + IDLE_SECONDS)

    def _size(self, stage: int, latency: Latency, *, head: bool) -> int:
        """Return the size of a batch: of as few batches as possible, all about equal."""
        waiting = len(self._queues[stage])
        most = min(self._max_batch, waiting)
        while most > 1 and latency.time(stage, most, head=head) > MAX_SECONDS:
            most -= 1
        return math.ceil(waiting / math.ceil(waiting / most))
