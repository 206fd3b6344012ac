"""A check that file descriptors are free, of which each connection takes one.

libuv closes new connections without a word while none is free.
"""

from __future__ import annotations

import errno
import logging
import os
import resource
from time import monotonic

LOG_SECONDS = 10.0  # between two lines while none is free
EXHAUSTED = (errno.EMFILE, errno.ENFILE)
log = logging.getLogger(__name__)


class DescriptorCheck:
    """Logs when no descriptor is free, and when some are free again."""

    def __init__(self) -> None:
        self._logged: float | None = None

    def run(self) -> None:
        """Try to take a descriptor. It takes some microseconds."""
        try:
            os.close(os.dup(2))
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._report(error)
            return
        if self._logged is not None:
            self._logged = None
            log.warning("file descriptors are free again: new connections are accepted")

    def _report(self, error: OSError) -> None:
        now = monotonic()
        if self._logged is not None and now - self._logged < LOG_SECONDS:
            return
        self._logged = now
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        text = (
            "no file descriptor is free (%s, limit %d): new connections are closed. Raise ulimit -n"
        )
        log.error(text, error.strerror, limit)
