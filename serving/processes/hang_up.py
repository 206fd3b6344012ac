"""Handlers of signals for a time, above all of SIGHUP, which a closing terminal sends to all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def handling(number: signal.Signals, handler: Callable[..., object]) -> Iterator[None]:
    """Handle a signal, and restore its handler at the end."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def hang_up_terminates() -> Iterator[None]:
    """End at SIGHUP as at SIGTERM: requests in progress are answered.

    If SIGHUP is ignored, as `nohup` does it, it stays ignored. Call this in the main thread.
    """
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    with handling(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM)):
        yield


@contextmanager
def hang_up_calls(callback: Callable[[], None] | None) -> Iterator[None]:
    """Call back at SIGHUP. `None` changes nothing, and neither does any thread but the main one."""
    if callback is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    with handling(signal.SIGHUP, lambda *_: callback()):
        yield
