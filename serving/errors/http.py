"""Errors of the bytes of a request: its head and its body."""

from __future__ import annotations

from types import MappingProxyType

from serving.errors.requests import InvalidRequestError


class BodyTooLargeError(InvalidRequestError):
    """The body is larger than the limit. The rest of it is not read."""

    status = 413
    type = "body-too-large"
    headers = MappingProxyType({"Connection": "close"})


class BodyTimeoutError(InvalidRequestError):
    """The body arrived too slowly. The rest of it is not read."""

    status = 408
    type = "body-timeout"
    headers = MappingProxyType({"Connection": "close"})


class MalformedRequestError(InvalidRequestError):
    """The bytes are not an HTTP/1.1 request. What follows them cannot be parsed."""

    status = 400
    type = "malformed-request"
    headers = MappingProxyType({"Connection": "close"})


class HttpVersionError(InvalidRequestError):
    """The request line has another version than HTTP/1.1 and HTTP/1.0."""

    status = 505
    type = "version-not-supported"
    headers = MappingProxyType({"Connection": "close"})


class TargetTooLongError(InvalidRequestError):
    """The target of the request line is longer than the limit."""

    status = 414
    type = "target-too-long"
    headers = MappingProxyType({"Connection": "close"})


class HeadTooLargeError(InvalidRequestError):
    """The head, the trailers or the chunk extensions of a request are over a limit."""

    status = 431
    type = "head-too-large"
    headers = MappingProxyType({"Connection": "close"})


class ContentEncodingError(InvalidRequestError):
    """The body is compressed, or encoded in another way."""

    status = 415
    type = "content-encoding"
    headers = MappingProxyType({"Accept-Encoding": "identity"})


class EmptyBodyError(InvalidRequestError):
    """The body, or an image in it, has no bytes."""

    status = 400
    type = "empty-body"


class MalformedBodyError(InvalidRequestError):
    """The body is not the multipart form, the JSON or the pixels of its content type."""

    status = 400
    type = "malformed-body"
