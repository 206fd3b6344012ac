"""The time for which images that are dear to decode wait, so that they cannot delay all others.

While the server refuses requests or misses their deadlines, a dear image takes the time of many
others. It then waits for BUSY_REST times as long as the one before it took. This helps only where
most requests are cheap. So dear images never wait where they are what most clients send, and never
in large numbers, because each of them holds a slot.
"""

from __future__ import annotations

from collections.abc import Callable

BUSY_REST = 50
MAX_REST = 30.0  # seconds
FEW_WORK = float(1 << 22)  # of waiting images, where a pixel of a PNG is 1: about 120 ms
LEAST_OTHERS = 4.0  # images that other requests sent for each dear call that arrives
MOST_OTHERS = 64  # that one gap between two dear calls counts
WEIGHT = 1 / 16  # of one gap in the running mean


class Rest:
    """Decides for how long dear images wait. All methods run on the event loop.

    Args:
        overloaded: Says whether requests were refused, or missed their deadline, just now.
        ended: Returns the number of images of requests that ended so far, also without an answer.
            If it counted answers, dear images that leave few of them would never have to wait.
    """

    def __init__(
        self,
        overloaded: Callable[[], bool] = lambda: False,
        ended: Callable[[], int] = lambda: 0,
    ) -> None:
        self._overloaded = overloaded
        self._ended = ended
        self._before = ended()
        self._others = 0.0

    def arrived(self) -> None:
        """Note that a dear call arrived, whether or not it is taken."""
        ended = self._ended()
        others = min(ended - self._before, MOST_OTHERS)
        self._before = ended
        self._others += WEIGHT * (others - self._others)

    @property
    def needed(self) -> bool:
        """True while dear images have to wait, and no more than a few of them are taken."""
        return self._others >= LEAST_OTHERS and self._overloaded()

    def after(self, seconds: float, queued: float) -> float:
        """Return the seconds for which no dear image starts, after one that took `seconds`.

        Args:
            seconds: Time that the last one took.
            queued: Work of all images that are queued or being decoded.
        """
        if queued > FEW_WORK or not self.needed:
            return 0.0
        return min(BUSY_REST * seconds, MAX_REST)
