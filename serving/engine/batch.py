"""Requests that run a stage together, and what its exit decides about each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serving.engine.request import Opinion, Request


@dataclass(frozen=True, slots=True)
class Decision:
    """What came of a batch: an opinion (or None) for each request, and the rows that run on."""

    opinions: list[Opinion | None]
    continuing: list[int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that run stage `stage` (from 0) together.

    Attributes:
        head: whether anybody wants to know what the exit thinks.
        degraded: who has no deadline leaves at this exit, whatever its policy says.
        whole_network: they run all stages from the first at once, and the exit is the last; nobody
            asks another.
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
    ) -> Decision:
        """Who leaves at this exit, as its head (None: it was not run) sees each request."""
        if confidence is None or probabilities is None:
            return Decision([None] * len(self.requests), list(range(len(self.requests))))
        if self.whole_network:
            said = zip(confidence.tolist(), probabilities, strict=True)
            return Decision([Opinion(sure, row) for sure, row in said], [])
        opinions: list[Opinion | None] = []
        continuing = []
        for row, (request, sure) in enumerate(zip(self.requests, confidence.tolist(), strict=True)):
            policy = request.policy
            hurried = self.degraded and policy.deadline is None
            asked = hurried or policy.asks[self.stage]
            opinions.append(Opinion(sure, probabilities[row]) if asked else None)
            if not (asked and policy.leaves(self.stage, sure)):
                if hurried:
                    request.degraded = True
                else:
                    continuing.append(row)
        return Decision(opinions, continuing)
