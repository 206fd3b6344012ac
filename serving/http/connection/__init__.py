"""A connection that speaks HTTP/1.1 as uvicorn does, within bounds, with a fast path.

- `interface`: the records and protocols that it shares with the application.
- `heads`: the limits and checks of a request's head, as functions.
- `cancelling`: a task that is cancelled when the client disconnects.
- `closing`: a close that lets the client read the last response.
- `refusing`: refusals as problems, and half-closed clients.
- `head_reading`: the fields of a head, within bounds.
- `reading`: parsing within bounds, one request at a time.
- `request_id`: the header `x-request-id`.
- `protocol`: the timers and the fast path.
"""

from serving.http.connection.cancelling import CancelOnDisconnect
from serving.http.connection.heads import check_encoding
from serving.http.connection.interface import (
    ARRIVED,
    DISCONNECT,
    Disconnect,
    FastPath,
    Headers,
    Reply,
    RequestHead,
    arrived_of,
    disconnect_of,
)
from serving.http.connection.protocol import BODY_SECONDS, HEAD_SECONDS, Connection

__all__ = [
    "ARRIVED",
    "BODY_SECONDS",
    "DISCONNECT",
    "HEAD_SECONDS",
    "CancelOnDisconnect",
    "Connection",
    "Disconnect",
    "FastPath",
    "Headers",
    "Reply",
    "RequestHead",
    "arrived_of",
    "check_encoding",
    "disconnect_of",
]
