"""Who runs next. Pure: no clock, no thread, no future.

    batch = scheduler.schedule()                 deepest stage first, oldest request first
    left = scheduler.update(batch, opinions)     who leaves; the rest waits at the next stage

Requests that survived different batches wait in one queue for each stage and run on
together (stage-level rebatching). Deepest first: whoever is nearest to the end leaves and
frees a slot, and no request can starve, for every batch brings its requests a stage further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from serving.request import Opinion, Request


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that run stage `stage` (from 0) together."""

    stage: int
    requests: tuple[Request, ...]

    @property
    def slots(self) -> list[int]:
        """The slots of its requests, in their order."""
        return [request.slot for request in self.requests]


class Scheduler:
    """The waiting requests of every stage.

    Args:
        stages: number of stages.
        max_batch: most requests in one batch.
    """

    def __init__(self, stages: int, max_batch: int) -> None:
        # Dictionaries as ordered sets: first in, first out, and quick to drop from.
        self._waiting: list[dict[Request, None]] = [{} for _ in range(stages)]
        self._max_batch = max_batch

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a batch."""
        return sum(map(len, self._waiting))

    def add(self, request: Request) -> None:
        """Let a request wait for its stage."""
        self._waiting[request.stage][request] = None

    def schedule(self) -> Batch | None:
        """The next batch, or None where nobody waits."""
        for stage in reversed(range(len(self._waiting))):
            if queue := self._waiting[stage]:
                chosen = tuple(islice(queue, self._max_batch))
                for request in chosen:
                    del queue[request]
                return Batch(stage, chosen)
        return None

    def update(self, batch: Batch, opinions: Sequence[Opinion]) -> list[Request]:
        """Record what the batch's stage thought of each request; give back those who leave.

        These are the requests whose policy lets them leave, and those dropped meanwhile.
        """
        left = []
        for request, outcome in zip(batch.requests, opinions, strict=True):
            request.opinions.append(outcome)
            if request.dropped or request.policy.leaves(batch.stage, outcome.confidence):
                left.append(request)
            else:
                self.add(request)
        return left

    def drop(self, request: Request) -> bool:
        """Give a request up. True: it waited, and is out. False: it leaves with its batch."""
        request.dropped = True
        for queue in self._waiting:
            if request in queue:
                del queue[request]
                return True
        return False
