"""A call from the headers of its request.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from serving.grpc.calls import CallError, Metadata, Status

Field = tuple[bytes, bytes]
CONTENT_TYPE = b"application/grpc"
TIMEOUT, ENCODING = b"grpc-timeout", b"grpc-encoding"
UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
MAX_TIMEOUT_DIGITS = 8
IDENTITY = b"identity"
NOT_GRPC = 415  # status of HTTP for another content type


class Head(NamedTuple):
    """The head of a request.

    Attributes:
        path: Path of the method.
        metadata: Headers without those of HTTP/2.
        seconds: Time to the deadline of the call, or `None`.
        error: The call is refused, because of this.
    """

    path: bytes
    metadata: Metadata
    seconds: float | None = None
    error: CallError | None = None


class NotGrpcError(ValueError):
    """A request of HTTP/2 is not a call of gRPC."""


def head_of(headers: Sequence[Field]) -> Head:
    """Return the head of a request, whose headers are valid.

    Raises:
        NotGrpcError: The method or the content type is another one.
    """
    first = next((n for n, (name, _) in enumerate(headers) if name[:1] != b":"), len(headers))
    pseudo, metadata = dict(headers[:first]), headers[first:]
    found = dict(metadata)
    content_type = found.get(b"content-type", b"")
    if pseudo[b":method"] != b"POST" or not content_type.startswith(CONTENT_TYPE):
        raise NotGrpcError
    path = pseudo[b":path"]
    if (encoding := found.get(ENCODING, IDENTITY)) != IDENTITY:
        name = encoding[:64].decode("latin-1")
        text = f"messages in the encoding {name!a} are not read; send identity"
        return Head(path, metadata, None, CallError(Status.UNIMPLEMENTED, text))
    try:
        return Head(path, metadata, _seconds(found.get(TIMEOUT)))
    except ValueError:
        error = CallError(Status.INVALID_ARGUMENT, "grpc-timeout is not digits and a unit")
        return Head(path, metadata, None, error)


def _seconds(timeout: bytes | None) -> float | None:
    if timeout is None:
        return None
    digits, unit = timeout[:-1], timeout[-1:]
    if not digits.isdigit() or len(digits) > MAX_TIMEOUT_DIGITS or unit not in UNITS:
        raise ValueError
    return int(digits) * UNITS[unit]
