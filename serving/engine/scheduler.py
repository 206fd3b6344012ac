"""Who runs next. Pure: it is told the time, and has no thread and no future.

    late = scheduler.late(now)                  whose deadline leaves no time for a stage
    batch = scheduler.schedule(now)             which stage, and who of those that wait there
    verdict = batch.judge(confidence, rows)     what its exit thought, and who stays
    left = scheduler.update(batch, verdict, s)  who leaves; the rest waits at the next stage

Requests that survived different batches wait in one queue for each stage and run on
together (stage-level rebatching). Which stage: the deepest, for whoever is nearest to the end
leaves and frees a slot; but first a stage where a deadline leaves no time for another batch
before it; and a shallower one where, by the latency model, all together wait less if its
survivors run with those who wait deeper. Nobody is passed over more than `PASSES` times, and no
thread idles while somebody waits. A batch of the first stage of which nobody asks an exit before
the last goes through all stages at once, where they can be had as one graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice, pairwise

from serving.engine.batch import Batch, Decision
from serving.engine.latency import Latency
from serving.engine.request import Request
from serving.engine.stage_queue import StageQueue
from serving.settings import Order

PASSES = 8  # batches that may go before a stage where somebody waits
GAIN = 0.05  # of one batch in the running shares of survivors
LONGEST = 0.05  # seconds that a batch of several may take to go through all stages: others wait
CALM = 1.0  # seconds without a new deadline, from which on batches may take as long as all stages


class Scheduler:
    """The waiting requests of every stage.

    Args:
        latency: of as many stages as there are; where it knows a way through, batches take it.
        max_batch: most requests in one batch.
        order: which stage first: the deepest, or that with most.
        rebatch: whether a stage may wait for survivors of a shallower one where that pays.
    """

    def __init__(
        self,
        latency: Latency,
        max_batch: int,
        order: Order = "deepest",
        *,
        rebatch: bool = True,
    ) -> None:
        self.latency = latency
        self._stages = range(latency.stages)
        self._waiting = [StageQueue() for _ in self._stages]
        self._hurry = -math.inf  # when the last request with a deadline came
        self._passes = [0] * latency.stages
        self._hurried = [False] * latency.stages  # the last batch had no place for the oldest
        # requests in batches under way, by stage; last, those that go through
        self._running = [0] * (latency.stages + 1)
        self._survive = [1.0] * latency.stages  # share that runs on, of recent batches
        self._max_batch = max_batch
        self._order = order
        self._rebatch = rebatch

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a batch."""
        return sum(map(len, self._waiting))

    def add(self, request: Request) -> None:
        """Let a request wait for its stage."""
        self._waiting[request.stage].add(request)
        if request.policy.deadline is not None:
            self._hurry = max(self._hurry, request.submitted)

    def expired(self, now: float) -> list[Request]:
        """Take out those whose deadline passes before their next stage could end."""
        expired: list[Request] = []
        for stage, queue in enumerate(self._waiting):
            while queue.hurrying and (first := queue.most_urgent()) is not None:
                if first.due >= now + self.latency.time(stage, 1):
                    break
                queue.remove(first)
                self.latency.decay(stage)
                expired.append(first)
        return expired

    def schedule(self, now: float, idle: int = 0, *, degraded: bool = False) -> Batch | None:
        """The next batch, or None where nobody waits.

        Args:
            now: the time.
            idle: further threads that have nothing to do; they share what waits.
            degraded: requests without a deadline are to leave at their next exit.
        """
        stages = [stage for stage in reversed(self._stages) if self._waiting[stage]]
        if not stages:
            return None
        stage = self._overdue_stage(stages)
        if stage is None:
            stage = self._urgent_stage(now)
        if stage is None:
            stage = self._next_stage(stages)
        whole_network = not degraded and stages == [0] and self._runs_whole_network(now)
        chosen = self._choose(stage, now, idle, whole_network=whole_network)
        for request in chosen:
            self._waiting[stage].remove(request)
        for other in self._stages:
            passed = other != stage and self._waiting[other]
            self._passes[other] = self._passes[other] + 1 if passed else 0
        head = whole_network or degraded or any(request.policy.asks[stage] for request in chosen)
        batch = Batch(stage, chosen, head, degraded, whole_network)
        self._running[_running_as(batch)] += len(chosen)
        return batch

    def update(self, batch: Batch, decision: Decision, seconds: float) -> list[Request]:
        """Record what became of a batch that took `seconds`; give back those who leave.

        These are the requests whose policy lets them leave, and those that ended meanwhile.
        """
        size, continuing = len(batch.requests), set(decision.continuing)
        self._running[_running_as(batch)] -= size
        if batch.whole_network:
            assert self.latency.whole_network is not None
            self.latency.whole_network.observe(0, size, seconds)
        else:
            self.latency.observe(batch.stage, size, seconds, head=batch.head)
        if not batch.degraded:
            share = 1.0 if batch.whole_network else len(continuing) / size
            for stage in self._stages[:-1] if batch.whole_network else (batch.stage,):
                self._survive[stage] += GAIN * (share - self._survive[stage])
        left = []
        for row, request in enumerate(batch.requests):
            if request.ended:
                left.append(request)
                continue
            request.compute += seconds
            if batch.whole_network:
                request.opinions += [None] * (len(self._stages) - 1)
            request.opinions.append(decision.opinions[row])
            if row in continuing:
                self.add(request)
            else:
                left.append(request)
        return left

    def failed(self, batch: Batch) -> list[Request]:
        """A batch broke down: all of it leaves."""
        self._running[_running_as(batch)] -= len(batch.requests)
        return list(batch.requests)

    def drop(self, request: Request) -> bool:
        """Give a request up. True: it waited, and is out. False: it leaves with its batch."""
        request.ended = True
        return self._waiting[min(request.stage, len(self._waiting) - 1)].remove(request)

    def seconds_to_first_stage(self) -> float:
        """Seconds of one thread for those with a deadline before the first exit.

        One more of them would come after these; who has no deadline lets it go first.
        """
        return self.latency.time(0, self._waiting[0].hurrying)

    def backlog(self) -> float:
        """Seconds that one thread would need for all who wait, to their likely exits."""
        total, rest = 0.0, 0.0
        for stage in reversed(self._stages):
            each = self.latency.time(stage, self._max_batch) / self._max_batch
            rest = each + self._survive[stage] * rest
            total += rest * len(self._waiting[stage])
        return total

    def _runs_whole_network(self, now: float) -> bool:
        """Whether the next batch of the first stage is to go through, if nobody waits deeper.

        Not while there are deadlines: they are kept within a stage, and it takes all stages. Who
        waits deeper counts on this batch's survivors, or has been passed over.
        """
        if self.latency.whole_network is None or now < self._hurry + CALM:
            return False
        if any(queue.hurrying for queue in self._waiting):
            return False
        first = islice(self._waiting[0], self._max_batch)
        return not any(any(request.policy.asks[:-1]) for request in first)

    def _urgent_stage(self, now: float) -> int | None:
        """The stage of whoever would be late if another batch went first; the tightest of them."""
        found, tightest = None, 0.0
        for stage, queue in enumerate(self._waiting):
            first = queue.most_urgent() if queue.hurrying else None
            if first is not None and (slack := first.due - self._soonest(stage, now)) < tightest:
                found, tightest = stage, slack
        return found

    def _soonest(self, stage: int, now: float) -> float:
        """When the stage could end if another batch went first."""
        sizes = (min(self._max_batch, len(queue)) for queue in self._waiting)
        longest = max(self.latency.time(*each) for each in enumerate(sizes))
        return now + longest + self.latency.time(stage, 1)

    def _overdue_stage(self, stages: Sequence[int]) -> int | None:
        return next((stage for stage in stages if self._passes[stage] >= PASSES), None)

    def _next_stage(self, stages: Sequence[int]) -> int:
        """By the order, of the stages where somebody waits, deepest first."""
        if self._order == "fullest":
            return max(stages, key=lambda stage: min(self._max_batch, len(self._waiting[stage])))
        if self._rebatch:
            for stage, shallower in pairwise(stages):
                if not self._pays_to_pass(stage, shallower):
                    return stage
            return stages[-1]
        return stages[0]

    def _pays_to_pass(self, stage: int, first: int) -> bool:
        """Whether requests wait less, all together, if stage `first` runs before `stage`.

        Its m survivors then join the n who wait at `stage`. That saves t(n) + t(m) - t(n + m)
        for everybody behind, shared by the threads at work, and those who leave at `first` do
        not wait for t(n); it costs the n the time of the batch before and of their company.
        """
        n = len(self._waiting[stage])
        going = min(self._max_batch, len(self._waiting[first]))
        coming = self._running[stage - 1] + (going if first == stage - 1 else 0)
        m = min(self._max_batch - n, coming * self._survive[stage - 1])
        if m <= 0:
            return False
        time = self.latency.time
        saved = time(stage, n) + time(stage, m) - time(stage, n + m)
        wait = time(first, going) + time(stage, n + m) - time(stage, n)
        threads = 1 + sum(1 for running in self._running if running)
        leaving = going * (1 - self._survive[first])
        gain = saved * (self.waiting - n) / threads + leaving * time(stage, n)
        return gain > wait * n

    def _choose(
        self, stage: int, now: float, idle: int, *, whole_network: bool
    ) -> tuple[Request, ...]:
        """Who runs: those whose time runs out, then in the order in which they came.

        After a batch of the former alone, the first seat is for who has waited longest.
        """
        queue = self._waiting[stage]
        latency = (
            self.latency.whole_network
            if whole_network and self.latency.whole_network
            else self.latency
        )
        size = latency.best(stage, min(self._max_batch, len(queue)))
        size = latency.shared(stage, size, idle)
        while whole_network and size > 1 and latency.time(stage, size) > LONGEST:
            size -= 1
        first = queue.most_urgent()
        if first is None or first.due > (soonest := self._soonest(stage, now)):
            self._hurried[stage] = False
            return tuple(islice(queue, size))
        while size > 1 and now + self.latency.time(stage, size) > first.due:
            size -= 1  # a smaller batch is in time
        seats = [*islice(queue, 1)] if self._hurried[stage] else []
        seats += queue.urgent(soonest, size)
        chosen = tuple(islice(dict.fromkeys((*seats, *queue)), size))
        self._hurried[stage] = next(iter(queue)) not in chosen
        return chosen


def _running_as(batch: Batch) -> int:
    """Its place among those under way."""
    return -1 if batch.whole_network else batch.stage
