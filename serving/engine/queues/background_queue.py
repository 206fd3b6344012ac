"""The queues of copies, which run one small batch at a time, while no request waits."""

from __future__ import annotations

from itertools import islice

from serving.engine.batch import Batch
from serving.engine.latency import Latency
from serving.engine.request import Request

MAX_SECONDS = 5e-3  # of a batch of several copies, because a new request waits for its end


class BackgroundQueue:
    """The copies that wait for each stage, in the order in which they came.

    Args:
        stages: Number of stages.
        max_batch: Most copies in one batch.

    Attributes:
        waiting: Number of copies in the queues.
        runs: A batch of copies runs. Another thread then stays free for requests.
    """

    def __init__(self, stages: int, max_batch: int) -> None:
        # Dictionaries as ordered sets: first in, first out, and fast to remove from.
        self._queues: list[dict[Request, None]] = [{} for _ in range(stages)]
        self._max_batch = max_batch
        self.waiting = 0
        self.runs = False

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

    def schedule(self, latency: Latency) -> Batch | None:
        """Return a batch of the deepest stage with copies, or `None` without one or if one runs."""
        if self.runs or not self.waiting:
            return None
        stage = max(k for k, queue in enumerate(self._queues) if queue)
        queue = self._queues[stage]
        size = min(self._max_batch, len(queue))
        while size > 1 and latency.time(stage, size) > MAX_SECONDS:
            size -= 1
        chosen = tuple(islice(queue, size))
        for copy in chosen:
            del queue[copy]
        self.waiting -= size
        self.runs = True
        head = any(copy.policy.asks[stage] for copy in chosen)
        return Batch(stage, chosen, head, background=True)
