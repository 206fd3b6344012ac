"""Parts of uvicorn's HTTP protocol that `Connection` uses, each with the reason.

uvicorn does not document them and a new version can change them. `pyproject.toml` therefore
bounds the version, and a test checks each part on a live connection. Other modules import them
from here only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

__all__ = [
    "EXTENDED",
    "OF_CYCLE",
    "REPLACED",
    "STATUS_LINE",
    "USED",
    "FastCycle",
    "Flow",
    "HttpToolsProtocol",
    "RequestResponseCycle",
]

# Methods that `Connection` extends. The event loop, the parser or the server calls them.
EXTENDED: Mapping[str, str] = {
    "connection_made": "start the timer of the first head",
    "connection_lost": "call the application when its client disconnects",
    "on_message_begin": "make the scope of a request, for the application only",
    "on_headers_complete": "check the head, and offer it to the fast path",
    "on_body": "keep the body for the fast path",
    "on_message_complete": "start the fast path, or continue to read",
    "on_response_complete": "parse what arrived before the response, or close",
    "pause_writing": "start the timer of a client that does not read",
    "resume_writing": "stop that timer",
    "shutdown": "hand a request without its whole body to uvicorn",
}
# Methods that `Connection` replaces.
REPLACED: Mapping[str, str] = {
    "data_received": "parse in pieces, one request at a time, and refuse with problems",
    "eof_received": "answer a client that shut its sending side",
    "on_url": "bound the target",
    "on_header": "bound the headers, and ignore trailers",
}
# Attributes that `Connection` reads or replaces.
USED: Mapping[str, str] = {
    "_unset_keepalive_if_required": "stop the keep-alive timer",
    "config.app": "has the fast path",
    "config.access_log": "the fast path writes no access log",
    "cycle": "the request under way, replaced by a `FastCycle`",
    "expect_100_continue": "such a client waits for a response before it sends the body",
    "flow": "replaced by a `Flow`",
    "flow.pause_reading": "back pressure on pipelined requests",
    "flow.resume_reading": "reading, so that a disconnect is noticed",
    "flow.write_paused": "the client reads too slowly for the fast path",
    "headers": "of the request, names in lower case",
    "limit_concurrency": "counted by uvicorn only",
    "loop": "for timers",
    "on_response_complete": "start the keep-alive timer and pipelined requests",
    "parser": "the httptools parser with method, version and keep-alive",
    "pipeline": "requests that arrived before the response to an earlier one",
    "root_path": "prefix of the path, which the fast path does not handle",
    "scope": "of ASGI, with extensions",
    "server_state.default_headers": "headers of each response, such as the date",
    "server_state.total_requests": "uvicorn counts responses",
    "tasks": "the server waits for them at shutdown, or cancels them",
    "timeout_keep_alive_task": "the keep-alive timer: set while no byte follows a response",
    "transport": "for responses",
    "url": "as the client sent it",
}
# Attributes of a request on the normal path, uvicorn's `cycle`.
OF_CYCLE: Mapping[str, str] = {
    "disconnected": "set to drop the response of a request whose body is malformed",
    "keep_alive": "cleared by a trailer that closes the connection",
    "message_event": "wakes an application that waits for its body",
    "response_complete": "whether the connection is idle",
    "response_started": "no other response can follow",
    "send": "replaced for a client that waits for `100 Continue`",
    "transport": "replaced, so that a close lingers",
}


class FastCycle:
    """A request on the fast path, with the attributes that uvicorn reads from a `cycle`."""

    message_event = asyncio.Event()  # one for all, because no task waits for it

    def __init__(self, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.response_complete = False
        self.disconnected = False


class Flow(FlowControl):
    """A flow control that does not resume while received data is not parsed.

    uvicorn resumes reading at each response, and when an application waits for its body.
    """

    full = False

    def resume_reading(self) -> None:
        """Resume reading, unless it has to wait."""
        if self.read_paused and not self.full:
            super().resume_reading()
