"""Retries of requests that a busy server refuses."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

import httpx

BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


@dataclass(frozen=True, slots=True)
class Retries:
    """Retries of requests that a busy server refuses (429, 503).

    Attributes:
        count: Retries of one request at most.
        max_seconds: Longest time to sleep before a retry. A `Retry-After` above it is an error.
    """

    count: int
    max_seconds: float

    def seconds(self, attempt: int, response: httpx.Response) -> float | None:
        """Return the seconds to sleep after an attempt, from 0. `None`: no retry."""
        if response.status_code not in BUSY or attempt >= self.count:
            return None
        seconds = retry_after(response) or min(0.1 * 2 ** min(attempt, 64), float(self.max_seconds))
        return seconds if seconds <= self.max_seconds else None


def retry_after(response: httpx.Response) -> float:
    """Return the seconds that a response asks to wait, or 0."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
