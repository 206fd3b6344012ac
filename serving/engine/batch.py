"""Requests that run a stage together, the decision which of them leave, and those that left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from serving.engine.opinion import Opinion
from serving.engine.request import Request, Run

How = Literal["finished", "expired", "failed"]


@dataclass(frozen=True, slots=True)
class Leaving:
    """Requests that are in no queue and no batch any more.

    Attributes:
        requests: These requests.
        how: `finished`: at an exit, or ended before. `expired`: no time for another stage.
            `failed`: with their batch.
        since: Time at which that was known, by `time.perf_counter`.
        background: They are copies.
    """

    requests: list[Request]
    how: How
    since: float
    background: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a batch.

    Attributes:
        opinions: An opinion or `None` for each request.
        continuing: Rows of requests that continue.
        audited: Rows of requests that leave, and can continue as a copy.
    """

    opinions: list[Opinion | None]
    continuing: list[int]
    audited: Sequence[int] = ()

    @property
    def kept(self) -> list[int]:
        """Rows with features to keep, ascending."""
        return sorted([*self.continuing, *self.audited])


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that run stage `stage` (from 0) together.

    Attributes:
        head: The exit head runs, because the policy of a request evaluates this exit.
        degraded: Requests without a deadline leave at this exit, whatever their policy says.
        whole_network: The batch runs all stages at once, up to the last exit. No policy in it
            evaluates an earlier exit.
        background: The batch is of copies.
    """

    stage: int
    requests: tuple[Request, ...]
    head: bool = True
    degraded: bool = False
    whole_network: bool = False
    background: bool = False

    @property
    def slots(self) -> list[int]:
        """The slots of its requests, in their order."""
        return [request.slot for request in self.requests]

    def record(self, started: float, ended: float) -> None:
        """Add it to the runs of requests that record them. Times are by `time.perf_counter`."""
        run = Run(self.stage, self.whole_network, len(self.requests), started, ended)
        for request in self.requests:
            if request.runs is not None:
                request.runs.append(run)

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
            return self._decide_whole(confidence, probabilities, score)
        opinions: list[Opinion | None] = []
        continuing, audited = [], []
        values = confidence.tolist()
        for row, (request, value) in enumerate(zip(self.requests, values, strict=True)):
            policy = request.policy
            forced = self.degraded and policy.deadline is None
            asked = forced or policy.asks[self.stage]
            opinion = Opinion(value, probabilities[row]) if asked else None
            opinions.append(opinion)
            if opinion is not None and policy.decide(opinion, request.opinions):
                if request.audited:
                    audited.append(row)
            elif forced:
                request.degraded = True
            else:
                continuing.append(row)
        if score is not None:
            opinions = _scored(opinions, self.requests, score)
        return Decision(opinions, continuing, audited)

    def _decide_whole(
        self,
        confidence: NDArray[np.float32],
        probabilities: NDArray[np.float32],
        score: NDArray[np.float32] | None,
    ) -> Decision:
        """Decide for a batch that ran all stages: all requests leave."""
        pairs = zip(confidence.tolist(), probabilities, strict=True)
        last: list[Opinion | None] = [Opinion(value, row) for value, row in pairs]
        return Decision(last if score is None else _scored(last, self.requests, score), [])


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
