"""A watchdog that ends a process which does not stop in its time."""

from __future__ import annotations

import logging
import os
import threading
from queue import SimpleQueue
from time import sleep

LOG_SECONDS = 0.2  # for a last line in the log, which can be what hangs
log = logging.getLogger(__name__)


class Watchdog:
    """Ends this process, with exit code 1, if it still runs some seconds after it began to stop.

    A thread that is stuck would keep it: the interpreter joins the threads of a pool at its end.

    Args:
        seconds: Time from `begin` to the end.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: SimpleQueue[None] = SimpleQueue()  # a signal handler can call its put
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self) -> None:
        """Start the time."""
        self._begun.put(None)

    def _watch(self) -> None:
        self._begun.get()
        sleep(self._seconds)
        text = "the server did not stop within drain_seconds and is ended"
        threading.Thread(target=log.critical, args=(text,), daemon=True).start()
        sleep(LOG_SECONDS)
        os._exit(1)
