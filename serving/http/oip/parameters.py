"""The parameters of a request: those of the native API's query, and a deadline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from serving.errors import ParameterError
from serving.http.oip.protocol import shown
from serving.http.query import ParsedQuery, QueryReader

TIMEOUT = "timeout"  # in microseconds
MAX_TEXT = 256  # characters of a name or value
# Parameters that clients send to every server. They have no meaning here.
IGNORED = ("priority", "headers", "binary_data_output")
IGNORED_PREFIXES = ("sequence_", "triton_")


class Asked(NamedTuple):
    """The parameters of a request, checked in part.

    Attributes:
        query: All parameters of the native API as a raw query.
        seconds: Deadline in seconds, or `None`.
    """

    query: bytes
    seconds: float | None


def read_parameters(query: bytes, parameters: Mapping[str, object]) -> Asked:
    """Return the query of a request, and its deadline.

    Args:
        query: Raw query string of its URL, or empty.
        parameters: Its parameters.

    Raises:
        ParameterError: The value of a parameter is of another type, or too long.
    """
    own = {name: _text(name, each) for name, each in parameters.items() if not _ignored(name)}
    if own:
        query = b"&".join(part for part in (query, urlencode(own).encode()) if part)
    return Asked(query, _seconds(parameters[TIMEOUT]) if TIMEOUT in parameters else None)


class ParameterReader:
    """Resolves parameters by the reader of the native API's query."""

    def __init__(self, query_reader: QueryReader) -> None:
        self._query_reader = query_reader

    def resolve(self, asked: Asked, seconds: float | None = None) -> ParsedQuery:
        """Return the query and policy of a request.

        Args:
            asked: Its parameters.
            seconds: Time that is left for the call, or `None` for no bound.

        Raises:
            ParameterError: A parameter is given twice.
            InvalidRequestError: As `QueryReader.read` raises.
        """
        parsed = self._query_reader.read(asked.query)
        deadlines = (parsed.policy.deadline, asked.seconds, seconds)
        least = min((each for each in deadlines if each is not None), default=None)
        if least == parsed.policy.deadline:
            return parsed
        return self._query_reader.at_every_exit(parsed, deadline=least)


def _ignored(name: str) -> bool:
    return name == TIMEOUT or name in IGNORED or name.startswith(IGNORED_PREFIXES)


def _text(name: str, value: object) -> str:
    if len(name) > MAX_TEXT or (isinstance(value, str) and len(value) > MAX_TEXT):
        raise ParameterError(f"{name[:64]}: more than {MAX_TEXT} characters")
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise ParameterError(f"{name[:64]}: {shown(value)} is not a string, number or boolean")
    return str(value)


def _seconds(timeout: object) -> float | None:
    """Return a timeout in seconds. `None` for 0, by which clients say that there is none."""
    if type(timeout) is not int or timeout < 0:
        raise ParameterError(
            f"{TIMEOUT}: {shown(timeout)} is not an integer of microseconds, 0 or above"
        )
    return timeout / 1e6 or None
