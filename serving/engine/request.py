"""An image on its way through the stages, alone and in batches, and its answer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.engine.policy import Policy


class Opinion(NamedTuple):
    """Output of one exit for one image.

    Attributes:
        confidence: In [0, 1]. Not finite: the network failed on this image.
        probabilities: float32, [classes]. Of many classes, those beyond the `MOST_CLASSES`
            likeliest can be 0.
        score: Score of the exit, for a request that asks whether to reject, if the graphs give one.
    """

    confidence: float
    probabilities: NDArray[np.float32]
    score: float | None = None


def score_of(opinion: Opinion) -> float:
    """Return the score of an opinion: the confidence, if the graphs give no score."""
    return opinion.confidence if opinion.score is None else opinion.score


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


@dataclass(frozen=True, slots=True)
class Leaving:
    """Requests that are in no queue and no batch any more.

    Attributes:
        requests: These requests.
        how: `finished`: at an exit, or ended before. `expired`: no time for another stage.
            `failed`: with their batch.
        since: Time at which that was known, by `time.perf_counter`.
    """

    requests: list[Request]
    how: Literal["finished", "expired", "failed"]
    since: float


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a batch: an opinion or `None` for each request, and the rows that continue."""

    opinions: list[Opinion | None]
    continuing: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that run stage `stage` (from 0) together.

    Attributes:
        head: The exit head runs, because the policy of a request evaluates this exit.
        degraded: Requests without a deadline leave at this exit, whatever their policy says.
        whole_network: The batch runs all stages at once, up to the last exit. No policy in it
            evaluates an earlier exit.
    """

    stage: int
    requests: tuple[Request, ...]
    head: bool = True
    degraded: bool = False
    whole_network: bool = False

    @property
    def slots(self) -> list[int]:
        """The slots of its requests, in their order."""
        return [request.slot for request in self.requests]

    def decide(
        self,
        confidence: NDArray[np.float32] | None,
        probabilities: NDArray[np.float32] | None,
        score: NDArray[np.float32] | None = None,
    ) -> Decision:
        """Decide which requests leave at this exit.

        Args:
            confidence: Confidence of each request, [N]. `None`: the head did not run.
            probabilities: Probabilities of each, [N, classes]. `None`: the head did not run.
            score: Score of each, [N]. `None`: the graphs give no score, or the head did not run.
        """
        if confidence is None or probabilities is None:
            return Decision([None] * len(self.requests), list(range(len(self.requests))))
        if self.whole_network:
            pairs = zip(confidence.tolist(), probabilities, strict=True)
            last: list[Opinion | None] = [Opinion(value, row) for value, row in pairs]
            return Decision(last if score is None else _scored(last, self.requests, score), [])
        opinions: list[Opinion | None] = []
        continuing = []
        values = confidence.tolist()
        for row, (request, value) in enumerate(zip(self.requests, values, strict=True)):
            policy = request.policy
            forced = self.degraded and policy.deadline is None
            opinion = None
            if forced or policy.asks[self.stage]:
                opinion = Opinion(value, probabilities[row])
            opinions.append(opinion)
            if opinion is None or not policy.decide(opinion, request.opinions):
                if forced:
                    request.degraded = True
                else:
                    continuing.append(row)
        if score is not None:
            opinions = _scored(opinions, self.requests, score)
        return Decision(opinions, continuing)


def _scored(
    opinions: list[Opinion | None], requests: Sequence[Request], score: NDArray[np.float32]
) -> list[Opinion | None]:
    """Add the score to the opinions of requests that ask whether to reject."""
    return [
        opinion._replace(score=value)
        if opinion is not None and request.policy.reject is not None
        else opinion
        for opinion, request, value in zip(opinions, requests, score.tolist(), strict=True)
    ]
