"""One image on its way through the stages, and the answer that it leaves with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from serving.policy import Policy


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one exit thought of one image: `probabilities` is float32, [classes].

    A confidence that is not finite says that the network failed on this image.
    """

    confidence: float
    probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request leaves with.

    Attributes:
        policy: the policy it was answered under.
        opinions: one for each exit reached; the last is the answer.
        deadline_hit: it was answered at its deadline, before its policy let it leave.
        queue: seconds between `submit` and the answer in which no stage ran for it.
        compute: seconds of the batches it was part of.
        total: seconds from arrival to the answer.
    """

    policy: Policy
    opinions: tuple[Opinion, ...]
    deadline_hit: bool
    queue: float
    compute: float
    total: float

    @property
    def exit(self) -> int:
        """The exit it left at, from 1."""
        return len(self.opinions)


@dataclass(slots=True, eq=False)
class Request:
    """One image on its way; only the event loop changes it.

    Times are in seconds of `time.perf_counter`. `dropped` marks one that has been answered
    or given up while a batch still holds its slot.
    """

    policy: Policy
    slot: int
    arrived: float
    submitted: float
    future: asyncio.Future[Answer]
    opinions: list[Opinion] = field(default_factory=list)
    compute: float = 0.0
    dropped: bool = False

    @property
    def stage(self) -> int:
        """The stage to run next, from 0."""
        return len(self.opinions)

    def answer(self, now: float, *, deadline_hit: bool = False) -> Answer:
        """The answer of the deepest exit reached, at the time `now`."""
        assert self.opinions
        queue = max(0.0, now - self.submitted - self.compute)
        opinions = tuple(self.opinions)
        return Answer(self.policy, opinions, deadline_hit, queue, self.compute, now - self.arrived)
