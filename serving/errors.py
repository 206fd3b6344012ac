"""Every error that serving raises, in one tree.

    ServingError                    500 internal
    ├── ProviderError               500 provider: asked for and not to be had; raised at load
    ├── WorkerError                 500 worker: a server process cannot start
    ├── StageError                  500 stage-failed: a stage broke down under a request
    ├── NotReadyError               503 not-ready: starting, or shutting down
    ├── PoolFullError               429 pool-full: no slot
    ├── BodiesFullError             429 bodies-full: no room for another body
    ├── DeadlineError               504 deadline: passed before the first exit
    └── InvalidRequestError         422 invalid-request: for the client to put right
        ├── UnauthorizedError       401 unauthorized
        ├── ParameterError          422 invalid-parameter
        ├── UnknownParameterError   422 unknown-parameter
        ├── UnknownBudgetError      422 unknown-budget
        ├── BudgetTooLowError       422 budget-too-low: the cheapest point is dearer
        ├── BodyTooLargeError       413 body-too-large
        ├── BodyTimeoutError        408 body-timeout
        ├── EmptyBodyError          400 empty-body
        ├── MalformedBodyError      400 malformed-body: not what it claims to be
        ├── NotAnImageError         415 not-an-image
        ├── DamagedImageError       422 damaged-image
        └── ImageTooLargeError      413 image-too-large

Each class carries the HTTP status, the problem type (RFC 9457) and the headers it is
answered with.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from offramp.errors import OfframpError


class ServingError(OfframpError):
    """Base of the tree: `status`, `type` and `headers` say how a client sees it."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    headers: Mapping[str, str] = MappingProxyType({})


class ProviderError(ServingError):
    """The execution provider that was asked for is not to be had on this machine."""

    type = "provider"


class WorkerError(ServingError):
    """A worker process cannot start, and another would do no better."""

    type = "worker"


class StageError(ServingError):
    """A stage failed under a batch, or gave a number that is none."""

    type = "stage-failed"


class NotReadyError(ServingError):
    """The server does not take requests yet, or any more."""

    status = 503
    type = "not-ready"
    headers = MappingProxyType({"Retry-After": "1"})


class PoolFullError(ServingError):
    """Every slot is taken: the call is refused at the door."""

    status = 429
    type = "pool-full"

    def __init__(self, text: str, seconds: int = 1) -> None:
        super().__init__(text)
        self.headers = {"Retry-After": str(seconds)}


class BodiesFullError(ServingError):
    """The bodies of all calls fill the room there is for them; the rest of this one is not read."""

    status = 429
    type = "bodies-full"
    headers = MappingProxyType({"Retry-After": "1", "Connection": "close"})


class DeadlineError(ServingError):
    """The deadline passed before the first exit was reached."""

    status = 504
    type = "deadline"


class InvalidRequestError(ServingError):
    """Base of what the client can put right."""

    status = 422
    type = "invalid-request"


class UnauthorizedError(InvalidRequestError):
    """The API key is missing or wrong."""

    status = 401
    type = "unauthorized"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class ParameterError(InvalidRequestError):
    """A query parameter has no such value, or does not go with another."""

    type = "invalid-parameter"


class UnknownParameterError(InvalidRequestError):
    """There is no query parameter of that name."""

    type = "unknown-parameter"


class UnknownBudgetError(InvalidRequestError):
    """A budget that is neither a name of the manifest nor a number."""

    type = "unknown-budget"


class BudgetTooLowError(InvalidRequestError):
    """A numeric budget below the cheapest operating point."""

    type = "budget-too-low"


class BodyTooLargeError(InvalidRequestError):
    """The body is larger than this server reads; the rest of it is not read."""

    status = 413
    type = "body-too-large"
    headers = MappingProxyType({"Connection": "close"})


class BodyTimeoutError(InvalidRequestError):
    """The body came too slowly; the rest of it is not read."""

    status = 408
    type = "body-timeout"
    headers = MappingProxyType({"Connection": "close"})


class EmptyBodyError(InvalidRequestError):
    """A body, or a part of it, without a byte."""

    status = 400
    type = "empty-body"


class MalformedBodyError(InvalidRequestError):
    """The body is not the multipart form, the JSON or the pixels that it claims to be."""

    status = 400
    type = "malformed-body"


class NotAnImageError(InvalidRequestError):
    """The bytes are no image of a format this server reads."""

    status = 415
    type = "not-an-image"


class DamagedImageError(InvalidRequestError):
    """The bytes begin as an image and cannot be decoded as one."""

    type = "damaged-image"


class ImageTooLargeError(InvalidRequestError):
    """The image has more pixels than this server decodes."""

    status = 413
    type = "image-too-large"
