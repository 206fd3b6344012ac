"""Choose the next batch. Holds no clock, thread or future.

    expired = scheduler.expired(now)               requests without time for another stage
    batch = scheduler.schedule(now)                a stage, and requests from its queue
    decision = batch.decide(confidence, rows)      opinions of its exit, rows that continue
    leaving = scheduler.update(batch, decision, s)     the other requests are queued again

Requests that survived different batches share one queue for each stage and run on together
(stage-level rebatching). The deepest stage runs first, because its requests leave soonest and
free their slots, with two exceptions. A stage goes first if a deadline leaves no time for another
batch before it. A shallower stage goes first if, by the latency model, all requests together wait
less when its survivors join those of the deeper one. No stage is passed over more than `PASSES`
times, and no thread idles while requests are queued. If all policies of a first batch evaluate the
last exit only, it runs all stages at once, if they are available as one graph. Copies of answered
requests run while no request waits (`background`).

A request skips the networks of a cascade in which its policy evaluates no exit, unless overload
lets it leave at its next exit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import islice

from offramp.bundle.manifest import stages_run
from serving.engine.batch import Batch, Decision
from serving.engine.latency import Latency
from serving.engine.request import Request
from serving.engine.scheduling.background_queue import BackgroundQueue
from serving.engine.scheduling.stage_order import StageOrder
from serving.engine.scheduling.stage_queue import StageQueue
from serving.settings import Order

PASSES = 8  # batches that can go before a stage with a queue
SURVIVAL_WEIGHT = 0.05  # of one batch in the running survival rate
CACHED_POLICIES = 256  # choices of exits to evaluate
MAX_WHOLE_SECONDS = 0.05  # for several requests through all stages, because others wait meanwhile
CALM = 1.0  # seconds without a new deadline after which batches can take as long as all stages


class Scheduler:
    """The queues of all stages.

    Args:
        latency: Latency model of all stages, and of the whole network if it can run at once.
        max_batch: Most requests in one batch.
        order: Stage that runs first: the deepest, or that with the longest queue.
        rebatch: Let a stage wait for survivors of a shallower one if that pays.
        firsts: First stage of each network: of a cascade several.
        gather: Number of copies that wait for no others.

    Attributes:
        max_batch: Most requests in one batch.
        survival: Fraction of requests that continue after each stage, a running mean.
        running: Requests in batches under way, for each stage. Last, those in whole networks.
        background: Queues of copies.
    """

    def __init__(
        self,
        latency: Latency,
        max_batch: int,
        order: Order = "deepest",
        *,
        rebatch: bool = True,
        firsts: Sequence[int] = (0,),
        gather: int = 1,
    ) -> None:
        self.latency = latency
        self.survival = [1.0] * latency.stages
        self.running = [0] * (latency.stages + 1)
        self._stages = range(latency.stages)
        self._queues = [StageQueue() for _ in self._stages]
        self.background = BackgroundQueue(latency.stages, max_batch, gather)
        self._last_deadline = -math.inf  # time at which the last request with a deadline came
        self._passes = [0] * latency.stages
        self.max_batch = max_batch
        self._order = StageOrder(
            latency, max_batch, self._queues, self.running, self.survival, order, rebatch=rebatch
        )
        self._is_cascade, self._last_network = len(firsts) > 1, firsts[-1]
        self._runs = lru_cache(CACHED_POLICIES)(partial(stages_run, firsts))
        self._degraded = False

    @property
    def waiting(self) -> int:
        """Number of requests in the queues."""
        return sum(map(len, self._queues))

    def add(self, request: Request, *, background: bool = False) -> None:
        """Queue a request or a copy for its stage, or for the next that it needs."""
        if self._is_cascade and (background or not self._degraded):
            runs = self._runs(request.policy.asks)
            while not runs[request.stage]:
                request.opinions.append(None)
        if background:
            self.background.add(request)
            return
        self._queues[request.stage].add(request)
        if request.policy.deadline is not None:
            self._last_deadline = max(self._last_deadline, request.submitted)

    def expired(self, now: float) -> list[Request]:
        """Remove requests with a deadline that passes before their next stage could end."""
        expired: list[Request] = []
        for stage, queue in enumerate(self._queues):
            while queue.with_deadline and (first := queue.most_urgent()) is not None:
                if first.due >= now + self.latency.time(stage, 1):
                    break
                self.latency.decay(stage)
                queue.remove(first)
                expired.append(first)
        return expired

    def schedule(
        self, now: float, idle: int = 0, *, degraded: bool = False, longest: float = math.inf
    ) -> Batch | None:
        """Return the next batch, or `None` if all queues are empty.

        Args:
            now: The time.
            idle: Number of other threads that are idle and can run a part of the queue.
            degraded: Requests without a deadline leave at their next exit.
            longest: Seconds that a batch of several requests can take.
        """
        recovered, self._degraded = self._degraded and not degraded, degraded
        if recovered and self._is_cascade:
            self._skip_networks()
        stages = [stage for stage in reversed(self._stages) if self._queues[stage]]
        if not stages:
            return None
        stage = next((stage for stage in stages if self._passes[stage] >= PASSES), None)
        if stage is None:
            stage = self._order.urgent(now)
        if stage is None:
            stage = self._order.next(stages)
        only = not degraded and stages == [self._last_network]
        whole_network = only and self._runs_whole_network(now, longest)
        chosen = self._choose(stage, now, idle, longest, whole_network=whole_network)
        for request in chosen:
            self._queues[stage].remove(request)
        for other in self._stages:
            passed = other != stage and self._queues[other]
            self._passes[other] = self._passes[other] + 1 if passed else 0
        head = whole_network or degraded or any(request.policy.asks[stage] for request in chosen)
        self.running[-1 if whole_network else stage] += len(chosen)
        self.background.idle_since = math.inf
        return Batch(stage, chosen, head, degraded, whole_network)

    def schedule_background(self, now: float) -> Batch | None:
        """Return the next batch of copies, or `None` while a request waits or another one runs."""
        if self.waiting:
            return None
        if not any(self.running):
            self.background.idle_since = min(self.background.idle_since, now)
        return self.background.schedule(self.latency, now)

    def update(self, batch: Batch, decision: Decision, seconds: float) -> list[Request]:
        """Record the decision of a batch that took `seconds`. Return the requests that leave.

        Their policy lets them leave, or they ended meanwhile.
        """
        continuing = set(decision.continuing)
        if batch.background:
            self.background.runs = False
        else:
            self.running[-1 if batch.whole_network else batch.stage] -= len(batch.requests)
        self._learn(batch, len(continuing) / len(batch.requests), seconds)
        leaving = []
        for row, request in enumerate(batch.requests):
            if request.ended:
                leaving.append(request)
                continue
            request.compute += seconds
            if batch.whole_network:
                request.opinions += [None] * (len(self._stages) - 1 - batch.stage)
            request.opinions.append(decision.opinions[row])
            if row in continuing:
                self.add(request, background=batch.background)
            else:
                leaving.append(request)
        return leaving

    def failed(self, batch: Batch) -> list[Request]:
        """Record that a batch failed. Return its requests, which all leave."""
        if batch.background:
            self.background.runs = False
        else:
            self.running[-1 if batch.whole_network else batch.stage] -= len(batch.requests)
        return [*batch.requests]

    def drop(self, request: Request) -> bool:
        """Give a request up. True: it was queued, and is out. False: it leaves with its batch."""
        request.ended = True
        queue = self._queues[min(request.stage, len(self._queues) - 1)]
        return queue.remove(request) or self.background.remove(request)

    def seconds_to_first_stage(self) -> float:
        """Return the seconds of one thread for requests with a deadline before the first exit.

        A new request with a deadline runs after these and before requests without one.
        """
        return self.latency.time(0, self._queues[0].with_deadline)

    def backlog(self) -> float:
        """Return the seconds of one thread for all queued requests, to their likely exits."""
        total, rest = 0.0, 0.0
        for stage in reversed(self._stages):
            each = self.latency.time(stage, self.max_batch) / self.max_batch
            rest = each + self.survival[stage] * rest
            total += rest * len(self._queues[stage])
        return total

    def _skip_networks(self) -> None:
        """Let requests that were queued under overload, which is over, skip networks too."""
        for queue in self._queues:
            for request in [*queue]:
                if not self._runs(request.policy.asks)[request.stage]:
                    queue.remove(request)
                    self.add(request)

    def _learn(self, batch: Batch, survived: float, seconds: float) -> None:
        if batch.whole_network:
            assert self.latency.whole_network is not None
            self.latency.whole_network.observe(0, len(batch.requests), seconds)
            stages, survived = self._stages[batch.stage : -1], 1.0
        else:
            self.latency.observe(batch.stage, len(batch.requests), seconds, head=batch.head)
            stages = self._stages[batch.stage : batch.stage + 1]
        if not (batch.degraded or batch.background):
            for stage in stages:
                self.survival[stage] += SURVIVAL_WEIGHT * (survived - self.survival[stage])

    def _runs_whole_network(self, now: float, longest: float) -> bool:
        """Return whether the next batch runs all stages: not while there are deadlines."""
        whole = self.latency.whole_network
        if whole is None or now < self._last_deadline + CALM or whole.time(0, 1) > longest:
            return False
        if any(queue.with_deadline for queue in self._queues):
            return False
        first = self._last_network
        requests = islice(self._queues[first], self.max_batch)
        return not any(any(request.policy.asks[first:-1]) for request in requests)

    def _choose(
        self, stage: int, now: float, idle: int, longest: float, *, whole_network: bool
    ) -> tuple[Request, ...]:
        """Return the requests of the batch: urgent ones first, then in the order of arrival."""
        queue = self._queues[stage]
        whole = self.latency.whole_network if whole_network else None
        latency, row = (self.latency, stage) if whole is None else (whole, 0)
        size = latency.split(row, latency.best(row, min(self.max_batch, len(queue))), idle)
        most = longest if whole is None else min(longest, MAX_WHOLE_SECONDS)
        size = latency.fitting(row, size, most)
        first = queue.most_urgent()
        if first is None or first.due > (soonest := self._order.soonest(stage, now)):
            return queue.oldest(size)
        while size > 1 and now + self.latency.time(stage, size) > first.due:
            size -= 1  # a smaller batch is in time
        return queue.urgent_first(soonest, size)
