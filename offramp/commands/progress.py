"""A progress bar on standard error, and the lists of images left out and failed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Self

from offramp.errors import OfframpError

if TYPE_CHECKING:
    from offramp.data.records import LeftOut

WIDTH = 24  # characters of the bar
EVERY = 0.2  # seconds between two drawings
EVERY_LINE = 10.0  # the same where each drawing is a line of a log
LISTED = 20  # failed images that are listed at the end


class Progress:
    """Counts images, and draws a bar where standard error is a terminal.

    Args:
        total: Images.
        shown: Draw the bar at all. Rows on the same terminal would mix with it.
        logged: Print a line every 10 s where standard error is no terminal.

    Attributes:
        images: Images that have a row, of this run.
        failed: Those of them that have no answer.
    """

    def __init__(self, total: int, *, shown: bool = True, logged: bool = False) -> None:
        self._total = total
        self._terminal = sys.stderr.isatty()
        self._shown = shown and (self._terminal or logged)
        self._every = EVERY if self._terminal else EVERY_LINE
        self._skipped = 0
        self._started = self._drawn = monotonic()
        self.images = 0
        self.failed = 0

    def skip(self, images: int) -> None:
        """Count images that had a row before this run."""
        self._skipped = images

    def add(self, images: int = 1, *, failed: int) -> None:
        """Count images, some of which failed."""
        self.images += images
        self.failed += failed
        if self._shown and monotonic() - self._drawn >= self._every:
            self._draw()

    @property
    def none_answered(self) -> bool:
        """Return whether no image has an answer, of this run or of those before."""
        return not self._skipped and 0 < self.failed == self.images

    def line(self, now: float) -> str:
        """Return the bar with the counts and the rate, at a time of `time.monotonic`."""
        done = self._skipped + self.images
        filled = WIDTH * done // max(1, self._total)
        seconds = max(now - self._started, 1e-9)
        rate = self.images / seconds
        remaining = (self._total - done) / rate if rate else 0.0
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"[{'#' * filled}{'.' * (WIDTH - filled)}] {done}/{self._total} images{failed}, "
            f"{rate:.0f}/s, {remaining:.0f} s remaining"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Draw the last state, and end the line."""
        if self._shown:
            self._draw()
            if self._terminal:
                print(file=sys.stderr)

    def _draw(self) -> None:
        self._drawn = monotonic()
        line = self.line(self._drawn)
        before, after = ("\r", "\x1b[K") if self._terminal else ("", "\n")
        print(before + line, end=after, file=sys.stderr, flush=True)


def report_failed(progress: Progress, failed: Sequence[str]) -> None:
    """List the last images that have no answer.

    Raises:
        OfframpError: No image has one.
    """
    for line in failed:
        print(line, file=sys.stderr)
    if progress.failed > len(failed):
        print(f"and {progress.failed - len(failed)} others before these", file=sys.stderr)
    if progress.none_answered:
        raise OfframpError("no image has an answer")


def report_left_out(left_out: Sequence[LeftOut], hidden: int = 0) -> None:
    """Name what is not part of the images, and why."""
    from offramp.data.summary import left_out_lines  # late: it imports numpy

    for line in left_out_lines(left_out, hidden):
        print(line, file=sys.stderr)
