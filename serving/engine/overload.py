"""Measures of overload: when to degrade, the lag of answers, and when a client can try again."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

RECENT = 64  # ends of requests that the drain rate is taken over
LAG_WEIGHT = 0.05  # of one answer in the running mean
MAX_RETRY_SECONDS = 60  # most that Retry-After says


class DrainRate:
    """The rate at which slots become free, from recent ends of requests."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def freed(self, now: float, slots: int) -> None:
        """Record that slots became free."""
        self._ends.append((now, slots))

    def seconds_until(self, slots: int, now: float) -> int:
        """Return whole seconds, at least 1, until so many more slots are expected to be free."""
        while self._ends and now - self._ends[0][0] > MAX_RETRY_SECONDS:
            self._ends.popleft()  # too old to say anything about the present load
        if len(self._ends) < 2:
            return 1
        rate = sum(count for _, count in self._ends) / max(1e-9, now - self._ends[0][0])
        return max(1, min(MAX_RETRY_SECONDS, math.ceil(slots / rate)))


class Lag:
    """The time that a known answer waits for the event loop, as a running mean.

    Attributes:
        seconds: The mean.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def seen(self, seconds: float) -> None:
        """Record the lag of one answer."""
        self.seconds += LAG_WEIGHT * (seconds - self.seconds)

    def decay(self) -> None:
        """Lower the mean after it refused a request, because no answer will correct it."""
        self.seconds *= 1 - LAG_WEIGHT


class OverloadDetector:
    """Detects overload by the seconds of work in the queues, with hysteresis.

    Args:
        seconds: Seconds of work above which the server is overloaded. It no longer is below half
            of them. `None`: never.

    Attributes:
        above: The server is overloaded.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self.above = False

    def update(self, backlog: Callable[[], float]) -> bool:
        """Return whether the server is overloaded. `backlog` returns the seconds of work."""
        if self._seconds is not None:
            self.above = backlog() > self._seconds * (0.5 if self.above else 1.0)
        return self.above
