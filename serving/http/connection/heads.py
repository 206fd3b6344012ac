"""The limits and checks of a request's head, beyond those of the parser (llhttp)."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from httptools import HttpParserError, parse_url

from serving.errors import (
    ContentEncodingError,
    HeadTooLargeError,
    HttpVersionError,
    MalformedRequestError,
    ServingError,
)
from serving.http.connection.interface import Headers
from serving.http.problems import INTERNAL_ERROR

MAX_TARGET_BYTES = 8 << 10
MAX_HEAD_BYTES = 64 << 10  # of a head, and again of the chunk extensions and trailers of its body
MAX_FIELDS = 100  # headers and trailers of one request
# Requests that arrived before the response to the one before them, answered in a row on one
# connection. The response to the last one closes it. A megabyte has up to 40,000 requests.
MAX_PIPELINED = 8
VERSIONS = ("1.1", "1.0")
SHOWN = 100  # characters of a client's bytes in an error text
# RFC 9110, 7.2: uri-host [":" port]. No comma, which would join two fields.
HOST = re.compile(
    rb"(?:\[[0-9A-Fa-f:.]+\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?"
)
# Texts of llhttp about a version in the request line.
VERSION_ERRORS = ("Invalid HTTP version", "Pause on PRI/Upgrade")
IDENTITY = {b"", b"identity"}
UPGRADE = (b"upgrade", b"http2-settings")  # headers that only offer another protocol
log = logging.getLogger(__name__)


def too_many_fields() -> HeadTooLargeError:
    """Return the error of a request with too many headers and trailers."""
    return HeadTooLargeError(f"the request has more than {MAX_FIELDS} headers; send fewer")


def head_too_large() -> HeadTooLargeError:
    """Return the error of a request with too many bytes around its body."""
    return HeadTooLargeError(
        f"the head, or the chunk extensions and trailers, have more than {MAX_HEAD_BYTES} bytes"
    )


def version_not_supported(version: str) -> HttpVersionError:
    """Return the error of a request line with another version than 1.1 and 1.0."""
    return HttpVersionError(f"HTTP/{version} is not supported here; use HTTP/1.1")


def check_head(
    method: bytes, version: str, hosts: Sequence[bytes], codings: Sequence[bytes]
) -> None:
    """Check a complete head that the parser accepted.

    Args:
        method: In upper case.
        version: Of the request line, as in `1.1`.
        hosts: Values of the headers `Host`.
        codings: Values of the headers `Transfer-Encoding`.

    Raises:
        HttpVersionError: The version is neither 1.1 nor 1.0.
        MalformedRequestError: There is no `Host` in HTTP/1.1, more than one, or an invalid one.
            Or the body has another transfer coding than `chunked`, or has one in HTTP/1.0.
    """
    if version not in VERSIONS:
        raise version_not_supported(version)
    if len(hosts) != 1 and (hosts or version == "1.1"):
        raise MalformedRequestError(f"the request has {len(hosts)} Host headers; send one")
    if hosts and not HOST.fullmatch(hosts[0].strip(b" \t")):
        raise MalformedRequestError(f"Host: {shown(hosts[0])} is not a host with a port")
    if method == b"CONNECT":
        raise MalformedRequestError("CONNECT: this server is no proxy")
    if codings and (version == "1.0" or codings[0].strip(b" \t").lower() != b"chunked"):
        raise MalformedRequestError(
            f"Transfer-Encoding: {shown(codings[0])}: in HTTP/1.1 chunked is read, no other"
        )


def values_of(name: bytes, headers: Headers) -> list[bytes]:
    """Return the values of all headers of this name, in lower case."""
    return [value for each, value in headers if each == name]


def length_of(value: bytes) -> int:
    """Return a length that the parser accepted, of 20 digits at most."""
    digits = value.strip()[-20:]
    return int(digits) if digits.isdigit() else 0


def check_encoding(headers: Headers) -> None:
    """Check that a body is not compressed or encoded in another way.

    Raises:
        ContentEncodingError: A header `Content-Encoding` has another value than `identity`.
    """
    for name, value in headers:
        if name == b"content-encoding":
            codings = {each.strip() for each in value.lower().split(b",")}
            if codings - IDENTITY:
                text = "send the body as it is, without this header"
                raise ContentEncodingError(f"Content-Encoding: {shown(value)}: {text}")


def check_begun_head(piece: bytes) -> None:
    """Check the request line in the first bytes of a head that is not complete.

    Raises:
        HttpVersionError: The line is whole and has no version, as in HTTP/0.9, or 2.0.
    """
    line, whole, _ = piece.lstrip(b"\r\n").partition(b"\r\n")
    if whole and b" HTTP/1." not in line:
        raise version_not_supported("2.0" if b" HTTP/2" in line else "0.9")


def error_of(error: HttpParserError) -> ServingError:
    """Return the error to answer with, for one that the parser or its callback raised."""
    cause = error.__context__
    if isinstance(cause, ServingError):
        return cause
    if cause is not None and not isinstance(cause, HttpParserError | UnicodeError):
        log.error("Exception in a callback of the parser", exc_info=cause)
        return INTERNAL_ERROR
    text = str(cause or error)
    if text in VERSION_ERRORS:
        return HttpVersionError(f"{text}; use HTTP/1.1")
    return MalformedRequestError(f"the request is not valid HTTP/1.1: {text[:SHOWN]}")


def with_path(target: bytes) -> bytes:
    """Return a target that has a path: `/` for an absolute URL without a path.

    Raises:
        HttpParserInvalidURLError: The target is not a path or a URL.
    """
    parsed = parse_url(target)
    return target if parsed.path else b"/" + (b"?" + parsed.query if parsed.query else b"")


def without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """Return a head without its offer of another protocol, to be parsed again.

    A server that does not accept the offer answers as if it were not there (RFC 9110, 7.8). The
    parser does not read the body of a head with such an offer.

    Args:
        method: As the parser gives it.
        target: Of the request line.
        version: Of the request line, as in `1.1`.
        headers: As the parser gave them, without line ends.
    """
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    for name, value in headers:
        kept = value
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            kept = b", ".join(token for token in tokens if token.lower() not in UPGRADE)
        if name not in UPGRADE and (kept or not value):
            lines.append(b"%b: %b" % (name, kept))
    return b"\r\n".join((*lines, b"", b""))


def shown(value: bytes) -> str:
    """Return the start of a client's bytes, for an error text."""
    return ascii(value[:SHOWN].decode("latin-1"))
