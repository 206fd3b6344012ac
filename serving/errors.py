"""The tree of all errors that serving raises.

    ServingError                    500 internal
    ├── ProviderError               500 provider: not available; raised at load
    ├── WorkerError                 500 worker: a server process cannot start
    ├── StageError                  500 stage-failed: a stage failed with a request in it
    ├── NotReadyError               503 not-ready: starting, or shutting down
    ├── PoolFullError               429 pool-full: no free slot
    ├── BodiesFullError             429 bodies-full: no room for another body
    ├── DecodersFullError           429 decoders-full: too many large images are being decoded
    ├── DeadlineError               504 deadline: passed before the first exit
    │   └── DeadlineTooShortError   422 deadline: too short for this server even when idle
    └── InvalidRequestError         422 invalid-request: for the client to correct
        ├── UnauthorizedError       401 unauthorized
        ├── UnknownModelError       404 unknown-model
        ├── NoAdminError            403 no-admin: models cannot be changed by calls
        ├── ModelLoadError          422 model-load: a model cannot be loaded, the old one serves
        ├── ParameterError          422 invalid-parameter
        ├── UnknownParameterError   422 unknown-parameter
        ├── UnknownBudgetError      422 unknown-budget
        ├── UnknownPromiseError     422 unknown-promise: none that is certified holds it
        ├── BudgetTooLowError       422 budget-too-low: the cheapest point costs more
        ├── BodyTooLargeError       413 body-too-large
        ├── BodyTimeoutError        408 body-timeout
        ├── MalformedRequestError   400 malformed-request: not HTTP/1.1, or no valid Host
        ├── HttpVersionError        505 version-not-supported: HTTP/2.0, HTTP/0.9
        ├── TargetTooLongError      414 target-too-long
        ├── HeadTooLargeError       431 head-too-large: the header section, or trailers
        ├── ContentEncodingError    415 content-encoding: a compressed body
        ├── EmptyBodyError          400 empty-body
        ├── MalformedBodyError      400 malformed-body: not of its content type
        ├── NotAnImageError         415 not-an-image
        ├── UnsupportedImageError   415 unsupported-image: of pixels that are not converted
        ├── DamagedImageError       422 damaged-image
        └── ImageTooLargeError      413 image-too-large

Each class has the HTTP status, the problem type (RFC 9457) and the headers of its response.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from offramp.errors import OfframpError


class ServingError(OfframpError):
    """Base of the tree. `status`, `type` and `headers` define the response to the client."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    headers: Mapping[str, str] = MappingProxyType({})


class ProviderError(ServingError):
    """The configured execution provider is not available on this machine."""

    type = "provider"


class WorkerError(ServingError):
    """A worker process cannot start, and another one would fail in the same way."""

    type = "worker"


class StageError(ServingError):
    """A stage failed with a batch, or its output was not finite."""

    type = "stage-failed"


class NotReadyError(ServingError):
    """The server does not take requests yet, or takes no more of them."""

    status = 503
    type = "not-ready"
    headers = MappingProxyType({"Retry-After": "1"})


class PoolFullError(ServingError):
    """Too few slots are free. The call is refused before any work is done."""

    status = 429
    type = "pool-full"

    def __init__(self, text: str, seconds: int = 1) -> None:
        super().__init__(text)
        self.headers = {"Retry-After": str(seconds)}


class BodiesFullError(ServingError):
    """The bodies of all calls reach their total limit. The rest of this body is not read."""

    status = 429
    type = "bodies-full"
    headers = MappingProxyType({"Retry-After": "1", "Connection": "close"})


class DecodersFullError(ServingError):
    """Too many large images are queued for decoding. Small images are still taken."""

    status = 429
    type = "decoders-full"
    headers = MappingProxyType({"Retry-After": "1"})


class DeadlineError(ServingError):
    """The deadline passed before the first exit was reached."""

    status = 504
    type = "deadline"


class DeadlineTooShortError(DeadlineError):
    """The deadline passed, and it is so short that an idle server would miss it too."""

    status = 422


class InvalidRequestError(ServingError):
    """Base of the errors that the client can correct."""

    status = 422
    type = "invalid-request"


class UnauthorizedError(InvalidRequestError):
    """The API key is missing or wrong."""

    status = 401
    type = "unauthorized"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class UnknownModelError(InvalidRequestError):
    """The server has no model of this name and version."""

    status = 404
    type = "unknown-model"


class NoAdminError(InvalidRequestError):
    """The server has no admin key, so that no call can change its models."""

    status = 403
    type = "no-admin"


class ModelLoadError(InvalidRequestError):
    """A model cannot be loaded. What served before still does."""

    type = "model-load"


class ParameterError(InvalidRequestError):
    """A query parameter has a wrong value, or excludes another one."""

    type = "invalid-parameter"


class UnknownParameterError(InvalidRequestError):
    """There is no query parameter of this name."""

    type = "unknown-parameter"


class UnknownBudgetError(InvalidRequestError):
    """The budget is neither a name in the manifest nor a number."""

    type = "unknown-budget"


class UnknownPromiseError(InvalidRequestError):
    """The promise is not written as one, or no certified promise of the bundle holds it."""

    type = "unknown-promise"


class BudgetTooLowError(InvalidRequestError):
    """The budget is below the cheapest operating point, or below that of the promise."""

    type = "budget-too-low"


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


class NotAnImageError(InvalidRequestError):
    """The bytes are not an image in a format that this server reads."""

    status = 415
    type = "not-an-image"


class UnsupportedImageError(InvalidRequestError):
    """The bytes are an image, and its kind of pixels or compression is not read."""

    status = 415
    type = "unsupported-image"


class DamagedImageError(InvalidRequestError):
    """The bytes begin as an image and cannot be decoded."""

    type = "damaged-image"


class ImageTooLargeError(InvalidRequestError):
    """The image needs more memory or time to decode than this server allows."""

    status = 413
    type = "image-too-large"
