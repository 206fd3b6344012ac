"""The stage that runs next. Holds no request, clock or lock."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from serving.engine.latency import Latency
from serving.engine.scheduling.stage_queue import StageQueue
from serving.settings import Order


class StageOrder:
    """Chooses among the stages that have a queue, from the lists that a scheduler keeps.

    Args:
        latency: Latency model of all stages.
        max_batch: Most requests in one batch.
        queues: The queue of each stage.
        running: Requests in batches under way, for each stage. Last, those in whole networks.
        survival: Fraction of requests that continue after each stage.
        order: Stage that runs first: the deepest, or that with the longest queue.
        rebatch: Let a stage wait for survivors of a shallower one if that pays.
    """

    def __init__(
        self,
        latency: Latency,
        max_batch: int,
        queues: Sequence[StageQueue],
        running: Sequence[int],
        survival: Sequence[float],
        order: Order,
        *,
        rebatch: bool,
    ) -> None:
        self._latency = latency
        self._max_batch = max_batch
        self._queues = queues
        self._running = running
        self._survival = survival
        self._order, self._rebatch = order, rebatch

    def urgent(self, now: float) -> int | None:
        """Return the stage of the request that another batch before it would make latest."""
        found, tightest = None, 0.0
        for stage, queue in enumerate(self._queues):
            first = queue.most_urgent() if queue.with_deadline else None
            if first is not None and (slack := first.due - self.soonest(stage, now)) < tightest:
                found, tightest = stage, slack
        return found

    def soonest(self, stage: int, now: float) -> float:
        """Return the time at which the stage could end if another batch ran first."""
        sizes = (min(self._max_batch, len(queue)) for queue in self._queues)
        before = max(self._latency.time(*each) for each in enumerate(sizes))
        return now + before + self._latency.time(stage, 1)

    def next(self, stages: Sequence[int]) -> int:
        """Return the first by the order, of stages with a queue, deepest first."""
        if self._order == "fullest":
            return max(stages, key=lambda stage: min(self._max_batch, len(self._queues[stage])))
        if self._rebatch:
            for stage, shallower in pairwise(stages):
                if not self._pays_to_pass(stage, shallower):
                    return stage
            return stages[-1]
        return stages[0]

    def _pays_to_pass(self, stage: int, first: int) -> bool:
        """Return whether all requests together wait less if stage `first` runs before `stage`.

        Its m survivors then join the n requests queued at `stage`. That saves every other queued
        request t(n) + t(m) - t(n + m), divided by the threads at work, and t(n) to those that
        leave at `first`. It costs the n requests the batch before and the larger batch.
        """
        n = len(self._queues[stage])
        going = min(self._max_batch, len(self._queues[first]))
        coming = self._running[stage - 1] + (going if first == stage - 1 else 0)
        m = min(self._max_batch - n, coming * self._survival[stage - 1])
        if m <= 0:
            return False
        time = self._latency.time
        saved = time(stage, n) + time(stage, m) - time(stage, n + m)
        cost = time(first, going) + time(stage, n + m) - time(stage, n)
        threads = 1 + sum(1 for running in self._running if running)
        leaving = going * (1 - self._survival[first])
        others = sum(map(len, self._queues)) - n
        return saved * others / threads + leaving * time(stage, n) > cost * n
