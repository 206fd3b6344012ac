"""An image on its way through the stages, and its answer."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from serving.engine.opinion import Opinion, score_of
from serving.engine.policy import Policy


class Answer(NamedTuple):
    """The answer to a request.

    Attributes:
        policy: The policy of the request.
        opinions: One for each exit reached, `None` where the policy does not evaluate the exit. The
            last one is the answer.
        deadline_hit: Answered because of its deadline, before its policy let it leave.
        degraded: Answered because of overload, before its policy let it leave.
        queue: Seconds between `submit` and the answer in which no stage ran for it.
        compute: Seconds of the batches that it was part of.
        total: Seconds from arrival to the answer.
        flops: Multiply-adds that were run for it.
    """

    policy: Policy
    opinions: tuple[Opinion | None, ...]
    deadline_hit: bool
    degraded: bool
    queue: float
    compute: float
    total: float
    flops: int

    @property
    def exit(self) -> int:
        """The exit that it left at, from 1."""
        return len(self.opinions)

    @property
    def opinion(self) -> Opinion:
        """The opinion of the exit that it left at."""
        last = self.opinions[-1]
        assert last is not None
        return last

    @property
    def by_policy(self) -> bool:
        """True if its policy let it leave, and no deadline or overload."""
        return not (self.deadline_hit or self.degraded)

    @property
    def rejected(self) -> bool:
        """True if the picture shows no class of the model. Of a policy with `reject` only."""
        thresholds = self.policy.reject
        assert thresholds is not None
        return score_of(self.opinion) < thresholds[self.exit - 1]


class Run(NamedTuple):
    """A batch that a request was part of. Times are in seconds of `time.perf_counter`.

    Attributes:
        stage: Its stage, from 0, or the first of several.
        whole_network: It ran all further stages too.
        size: Number of requests in it.
        started: Time at which it began.
        ended: Time at which it ended.
    """

    stage: int
    whole_network: bool
    size: int
    started: float
    ended: float


@dataclass(slots=True, eq=False)
class Call:
    """Requests that arrived together and are answered together, or fail together.

    Attributes:
        future: Answers in the order of the requests, or the error of the first that failed.
        timer: Timer of their deadline.
        requests: One for each image.
        answers: Answers so far.
    """

    future: asyncio.Future[list[Answer]]
    timer: asyncio.TimerHandle | None = None
    requests: list[Request] = field(default_factory=list)
    answers: dict[Request, Answer] = field(default_factory=dict)

    def add(self, request: Request, answer: Answer) -> None:
        """Add the answer to one of the requests. The last one resolves the future."""
        self.answers[request] = answer
        if len(self.answers) == len(self.requests) and not self.future.done():
            self.future.set_result([self.answers[each] for each in self.requests])


@dataclass(slots=True, eq=False)
class Request:
    """An image on its way. Times are in seconds of `time.perf_counter`.

    Attributes:
        policy: Its policy.
        slot: Number of its slot.
        arrived: Time of arrival of its call.
        submitted: Time of `submit`.
        call: The call that it belongs to.
        opinions: One for each exit reached, `None` where the policy does not evaluate the exit.
        compute: Seconds of the batches that it was part of.
        ended: It was answered or given up. A batch can still hold its slot.
        degraded: It leaves because of overload.
        lag: Seconds before its deadline at which it must leave, so that its answer is in time.
        audited: A copy of it is to run on after its answer, so that its features are kept.
        runs: Batches that it was part of. `None`: they are not recorded.
    """

    policy: Policy
    slot: int
    arrived: float
    submitted: float
    call: Call
    opinions: list[Opinion | None] = field(default_factory=list)
    compute: float = 0.0
    ended: bool = False
    degraded: bool = False
    lag: float = 0.0
    audited: bool = False
    runs: list[Run] | None = None

    @property
    def stage(self) -> int:
        """The stage to run next, from 0."""
        return len(self.opinions)

    @property
    def due(self) -> float:
        """Time at which it must leave because of its deadline, infinite without one."""
        deadline = self.policy.deadline
        return math.inf if deadline is None else self.arrived + deadline - self.lag

    @property
    def sound(self) -> bool:
        """True if the confidence of the last exit is finite."""
        opinion = self.opinions[-1]
        assert opinion is not None
        return math.isfinite(opinion.confidence)

    def answer(self, now: float, flops: int, *, deadline_hit: bool = False) -> Answer:
        """Return the answer of the deepest exit reached, at the time `now`."""
        assert self.opinions
        return Answer(
            self.policy,
            tuple(self.opinions),
            deadline_hit,
            self.degraded,
            max(0.0, now - self.submitted - self.compute),
            self.compute,
            now - self.arrived,
            flops,
        )
