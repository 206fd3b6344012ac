"""CPU time of code under test."""

from __future__ import annotations

from collections.abc import Callable
from time import thread_time

ROUNDS = 3


def least_seconds(run: Callable[[], float], enough: float) -> float:
    """Return the smallest of up to three measured times, in seconds.

    Other processes and garbage collections make a run slower, and no run faster.

    Args:
        run: Measures once.
        enough: Time below which no other run is measured.
    """
    least = run()
    for _ in range(ROUNDS - 1):
        if least < enough:
            break
        least = min(least, run())
    return least


def least_cpu_seconds(run: Callable[[], object], enough: float) -> float:
    """Return the smallest CPU time of this thread, of up to three runs, in seconds."""

    def once() -> float:
        started = thread_time()
        run()
        return thread_time() - started

    return least_seconds(once, enough)
