"""SIGHUP, which a terminal sends to all processes of a server when it closes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
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


@contextmanager
def hang_up_calls(callback: Callable[[], None] | None) -> Iterator[None]:
    """Call back at SIGHUP. `None` changes nothing, and neither does any thread but the main one."""
    if callback is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGHUP, lambda *_: callback())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
