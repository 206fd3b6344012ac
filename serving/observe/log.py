"""The log: one JSON object on each line of stderr."""

from __future__ import annotations

import json
import logging
import warnings
from threading import Lock
from typing import TextIO

MAX_WARNINGS = 100  # different ones that are logged
MAX_TEXT = 500  # characters of a warning that are logged


class OneLine(logging.Formatter):
    """A formatter that writes each log record as a JSON object on one line.

    A traceback is the field `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def set_up_log(level: str) -> None:
    """Log records of at least this level."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    # "default" would keep every text in memory, and texts can come from clients' files
    warnings.simplefilter("always", append=True)
    warnings.showwarning = WarningLog()


class WarningLog:
    """Logs each warning of Python and its libraries once, and at most 100 different ones."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._lock = Lock()
        self._log = logging.getLogger("py.warnings")

    def __call__(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Log a warning, as `warnings.showwarning` is called."""
        del file, line
        text = f"{category.__name__}: {message} ({filename}:{lineno})"[:MAX_TEXT]
        with self._lock:
            if text in self._seen or len(self._seen) > MAX_WARNINGS:
                return
            self._seen.add(text)
            if len(self._seen) > MAX_WARNINGS:
                text = f"more than {MAX_WARNINGS} different warnings; the others are not logged"
        self._log.warning("%s", text)
