"""A progress bar on standard error."""

from __future__ import annotations

import sys
from time import monotonic
from typing import Self

WIDTH = 24  # characters of the bar
EVERY = 0.2  # seconds between two drawings


class Progress:
    """Counts images, and draws a bar where standard error is a terminal.

    Args:
        total: Images.
        shown: Draw the bar at all. Rows on the same terminal would mix with it.

    Attributes:
        images: Images that have a row, of this run.
        failed: Those of them that have no answer.
    """

    def __init__(self, total: int, *, shown: bool = True) -> None:
        self._total = total
        self._shown = shown and sys.stderr.isatty()
        self._skipped = 0
        self._started = self._drawn = monotonic()
        self.images = 0
        self.failed = 0

    def skip(self, images: int) -> None:
        """Count images that had a row before this run."""
        self._skipped = images

    def add(self, *, failed: bool) -> None:
        """Count an image."""
        self.images += 1
        self.failed += failed
        if self._shown and monotonic() - self._drawn >= EVERY:
            self._draw()

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
            print(file=sys.stderr)

    def _draw(self) -> None:
        self._drawn = monotonic()
        print(f"\r{self.line(self._drawn)}\x1b[K", end="", file=sys.stderr, flush=True)
