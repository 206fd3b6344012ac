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
thread idles while somebody waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, nsmallest
from itertools import count, islice, pairwise
from typing import Literal

from serving.batch import Batch, Verdict
from serving.latency import Latency
from serving.request import Request

Order = Literal["deepest", "fullest"]
PASSES = 8  # batches that may go before a stage where somebody waits
SOONER = 0.9  # a part of a batch must end in this share of the whole's time
GAIN = 0.05  # of one batch in the running shares of survivors


class Scheduler:
    """The waiting requests of every stage.

    Args:
        latency: of as many stages as there are.
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
        # Dictionaries as ordered sets: first in, first out, and quick to drop from.
        self._waiting: list[dict[Request, None]] = [{} for _ in self._stages]
        self._deadlines: list[list[tuple[float, int, Request]]] = [[] for _ in self._stages]
        self._ticket = count()
        self._hurrying = [0] * latency.stages  # how many of those who wait have a deadline
        self._passes = [0] * latency.stages
        self._hurried = [False] * latency.stages  # the last batch had no place for the oldest
        self._running = [0] * latency.stages  # requests in batches under way
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
        self._waiting[request.stage][request] = None
        if request.policy.deadline is not None:
            self._hurrying[request.stage] += 1
            heappush(self._deadlines[request.stage], (request.due, next(self._ticket), request))

    def late(self, now: float) -> list[Request]:
        """Take out those whose deadline passes before their next stage could end."""
        late: list[Request] = []
        if not any(self._deadlines):
            return late
        for stage in self._stages:
            while (first := self._most_urgent(stage)) is not None:
                if first.due >= now + self.latency.time(stage, 1):
                    break
                self._remove(first)
                self.latency.doubt(stage)
                late.append(first)
        return late

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
        chosen = self._choose(stage, now, idle)
        for request in chosen:
            self._remove(request)
        for other in self._stages:
            passed = other != stage and self._waiting[other]
            self._passes[other] = self._passes[other] + 1 if passed else 0
        self._running[stage] += len(chosen)
        head = degraded or any(request.policy.asks[stage] for request in chosen)
        return Batch(stage, chosen, head, degraded)

    def update(self, batch: Batch, verdict: Verdict, seconds: float) -> list[Request]:
        """Record what became of a batch that took `seconds`; give back those who leave.

        These are the requests whose policy lets them leave, and those that ended meanwhile.
        """
        size, staying = len(batch.requests), set(verdict.staying)
        self._running[batch.stage] -= size
        self.latency.observe(batch.stage, size, seconds, head=batch.head)
        if not batch.degraded:
            share = len(staying) / size
            self._survive[batch.stage] += GAIN * (share - self._survive[batch.stage])
        left = []
        for row, request in enumerate(batch.requests):
            if request.ended:
                left.append(request)
                continue
            request.compute += seconds
            request.opinions.append(verdict.opinions[row])
            if row in staying:
                self.add(request)
            else:
                left.append(request)
        return left

    def failed(self, batch: Batch) -> list[Request]:
        """A batch broke down: all of it leaves."""
        self._running[batch.stage] -= len(batch.requests)
        return list(batch.requests)

    def drop(self, request: Request) -> bool:
        """Give a request up. True: it waited, and is out. False: it leaves with its batch."""
        request.ended = True
        return self._remove(request)

    def wait(self) -> float:
        """Seconds of one thread for those with a deadline before the first exit.

        One more of them would come after these; who has no deadline lets it go first.
        """
        return self.latency.time(0, self._hurrying[0])

    def backlog(self) -> float:
        """Seconds that one thread would need for all who wait, to their likely exits."""
        total, rest = 0.0, 0.0
        for stage in reversed(self._stages):
            each = self.latency.time(stage, self._max_batch) / self._max_batch
            rest = each + self._survive[stage] * rest
            total += rest * len(self._waiting[stage])
        return total

    def _remove(self, request: Request) -> bool:
        stage = min(request.stage, len(self._waiting) - 1)
        if request not in self._waiting[stage]:
            return False
        del self._waiting[stage][request]
        self._hurrying[stage] -= request.policy.deadline is not None
        return True

    def _most_urgent(self, stage: int) -> Request | None:
        """Who waits here with the earliest deadline."""
        heap, queue = self._deadlines[stage], self._waiting[stage]
        while heap and heap[0][2] not in queue:
            heappop(heap)
        return heap[0][2] if heap else None

    def _urgent_stage(self, now: float) -> int | None:
        """The stage of whoever would be late if another batch went first; the tightest of them."""
        if not any(self._deadlines):
            return None
        found, tightest = None, 0.0
        for stage in self._stages:
            first = self._most_urgent(stage)
            if first is not None and (slack := first.due - self._soonest(stage, now)) < tightest:
                found, tightest = stage, slack
        return found

    def _soonest(self, stage: int, now: float) -> float:
        """When the stage could end if another batch went first."""
        longest = max(self.latency.time(other, self._max_batch) for other in self._stages)
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

    def _choose(self, stage: int, now: float, idle: int) -> tuple[Request, ...]:
        """Who runs: those whose time runs out, then in the order in which they came.

        After a batch of the former alone, the first seat is for who has waited longest.
        """
        queue = self._waiting[stage]
        size = self.latency.best(stage, min(self._max_batch, len(queue)))
        size = self._shared(stage, size, idle)
        first = self._most_urgent(stage)
        if first is None or first.due > (soonest := self._soonest(stage, now)):
            self._hurried[stage] = False
            return tuple(islice(queue, size))
        while size > 1 and now + self.latency.time(stage, size) > first.due:
            size -= 1  # a smaller batch is in time
        urgent = [entry for entry in self._deadlines[stage] if entry[0] <= soonest]
        hurried = nsmallest(size, (entry for entry in urgent if entry[2] in queue))
        seats = [*islice(queue, 1)] if self._hurried[stage] else []
        seats += [request for _, _, request in hurried]
        chosen = tuple(islice(dict.fromkeys((*seats, *queue)), size))
        self._hurried[stage] = next(iter(queue)) not in chosen
        return chosen

    def _shared(self, stage: int, size: int, idle: int) -> int:
        """A part of the batch where idle threads can take the rest and all end sooner."""
        part = -(-size // (1 + idle))
        time = self.latency.time
        return part if part < size and time(stage, part) < SOONER * time(stage, size) else size
