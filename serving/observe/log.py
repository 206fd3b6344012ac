"""The log: one JSON object on each line of stderr."""

from __future__ import annotations

import json
import logging


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
