"""Draws of requests for copies: a fixed share, while few of those drawn are under way.

A draw is at admission and knows nothing of the image. Each drawn request gives exactly one result:
a comparison of its answer with that of a copy, or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import SystemRandom
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.audit.metrics import Unknown
from serving.engine.background.copies import End
from serving.engine.batch import How
from serving.engine.request import Request

Image = NDArray[np.uint8]
UNKNOWN: Mapping[End, Unknown] = {"dropped": "slot", "failed": "failed", "stopped": "stopped"}


class Copying(Protocol):
    """A use of copies of answered requests. All methods run on the event loop."""

    def draw(self, requests: Sequence[Request], images: Sequence[Image], /) -> None:
        """Draw new requests, each with its image."""

    def give_up(self, request: Request, reason: Unknown, /) -> None:
        """Note that a request ended early, if it was drawn."""

    def leave(self, requests: Sequence[Request], how: How, /) -> Sequence[Request]:
        """Start copies of drawn requests among those that left, after their answers.

        Returns:
            Requests that kept their slot for a copy, and need it no more.
        """


class Draws:
    """Draws requests, and counts those under way.

    Args:
        share: Probability that a request is drawn.

    Attributes:
        share: As above.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._random = SystemRandom().random
        self._under_way = 0

    def draw(self, most: int) -> bool:
        """Return whether to copy a request, while fewer than `most` are under way."""
        drawn = self._random() < self.share and self._under_way < most
        self._under_way += drawn
        return drawn

    def end(self) -> None:
        """Note that a drawn request has its result."""
        self._under_way -= 1


def unknown_of(request: Request, how: How) -> Unknown | None:
    """Return the reason why the answer of a request that left is not compared, if there is one."""
    if how == "expired" or request.degraded:
        return "cut_short"
    if how == "failed" or not request.sound:
        return "failed"
    return None


def class_of(request: Request) -> int:
    """Return the class of the last exit that a request reached."""
    opinion = request.opinions[-1]
    assert opinion is not None
    return int(np.argmax(opinion.probabilities))
