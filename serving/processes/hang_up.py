"""SIGHUP, which a terminal sends to all processes of a server when it closes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hang_up_terminates() -> Iterator[None]:
    """End at SIGHUP as at SIGTERM: requests in progress are answered.

    If SIGHUP is ignored, as `nohup` does it, it stays ignored. Call this in the main thread.
    """
    before = signal.getsignal(signal.SIGHUP)
    if before is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
