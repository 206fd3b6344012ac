"""When there is too much to do: whether to degrade, how late we are, when to come again. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

RECENT = 64  # ends that the drain rate is taken over
LAG_GAIN = 0.05  # of one answer
LONGEST_WAIT = 60  # seconds that a client is told to wait at most


class DrainRate:
    """How fast slots come back, from the last ends."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque(maxlen=RECENT)

    def freed(self, now: float, slots: int) -> None:
        """So many slots came back."""
        self._ends.append((now, slots))

    def seconds_until(self, slots: int, now: float) -> int:
        """Whole seconds, at least 1, until so many more slots should be free."""
        while self._ends and now - self._ends[0][0] > LONGEST_WAIT:
            self._ends.popleft()  # of a quieter time
        if len(self._ends) < 2:
            return 1
        rate = sum(count for _, count in self._ends) / max(1e-9, now - self._ends[0][0])
        return max(1, min(LONGEST_WAIT, math.ceil(slots / rate)))


class Lag:
    """How long an answer that is known waits for the event loop, as a running mean.

    Attributes:
        seconds: of it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    def seen(self, seconds: float) -> None:
        """One answer waited so long."""
        self.seconds += LAG_GAIN * (seconds - self.seconds)

    def decay(self) -> None:
        """Somebody was turned away, perhaps because of it: lower it, for no answer will."""
        self.seconds *= 1 - LAG_GAIN


class OverloadDetector:
    """Whether what waits would take too long, with hysteresis.

    Args:
        seconds: of work that waits, from which on the server is overloaded; below half of it,
            it no longer is. None: never.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self.above = False

    def update(self, backlog: Callable[[], float]) -> bool:
        """Whether the server is overloaded, now that `backlog` seconds of work wait."""
        if self._seconds is not None:
            self.above = backlog() > self._seconds * (0.5 if self.above else 1.0)
        return self.above
