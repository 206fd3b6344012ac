"""One image on its way through the stages, and the answer that it leaves with."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.engine.policy import Policy


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one exit thought of one image: `probabilities` is float32, [classes].

    Of many classes, those beyond the `MOST_CLASSES` likeliest may be 0, whatever they were.
    A confidence that is not finite says that the network failed on this image.
    """

    confidence: float
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request leaves with.

    Attributes:
        policy: the policy it was answered under.
        opinions: one for each exit reached, None where its policy did not ask; the last is
            the answer.
        deadline_hit: it was answered because of its deadline, before its policy let it leave.
        degraded: it was answered because of overload, before its policy let it leave.
        queue: seconds between `submit` and the answer in which no stage ran for it.
        compute: seconds of the batches it was part of.
        total: seconds from arrival to the answer.
    """

    policy: Policy
    opinions: tuple[Opinion | None, ...]
    deadline_hit: bool
    degraded: bool
    queue: float
    compute: float
    total: float

    @property
    def exit(self) -> int:
        """The exit it left at, from 1."""
        return len(self.opinions)

    @property
    def opinion(self) -> Opinion:
        """What the exit that it left at thought."""
        last = self.opinions[-1]
        assert last is not None
        return last


@dataclass(slots=True, eq=False)
class Call:
    """Requests that came together and are answered together, or fail together.

    `timer` goes off at their deadline.
    """

    future: asyncio.Future[list[Answer]]
    timer: asyncio.TimerHandle | None = None
    requests: list[Request] = field(default_factory=list)
    answers: dict[Request, Answer] = field(default_factory=dict)

    def add(self, request: Request, answer: Answer) -> None:
        """One of them is answered; the last one resolves the future."""
        self.answers[request] = answer
        if len(self.answers) == len(self.requests) and not self.future.done():
            self.future.set_result([self.answers[each] for each in self.requests])


@dataclass(slots=True, eq=False)
class Request:
    """One image on its way.

    Times are in seconds of `time.perf_counter`. `ended` marks one that has been answered or
    given up; its slot may be held by a batch still. `lag` is how long before its deadline it must
    leave, for its answer to be out by then.
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

    @property
    def stage(self) -> int:
        """The stage to run next, from 0."""
        return len(self.opinions)

    @property
    def due(self) -> float:
        """When it must leave because of its deadline; infinite without one."""
        deadline = self.policy.deadline
        return math.inf if deadline is None else self.arrived + deadline - self.lag

    @property
    def sound(self) -> bool:
        """Whether the last exit gave a number."""
        opinion = self.opinions[-1]
        assert opinion is not None
        return math.isfinite(opinion.confidence)

    def answer(self, now: float, *, deadline_hit: bool = False) -> Answer:
        """The answer of the deepest exit reached, at the time `now`."""
        assert self.opinions
        return Answer(
            self.policy,
            tuple(self.opinions),
            deadline_hit,
            self.degraded,
            max(0.0, now - self.submitted - self.compute),
            self.compute,
            now - self.arrived,
        )
