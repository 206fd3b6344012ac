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
`failures` has those of the server, `requests`, `http` and `images` those that a client can correct.
"""

from serving.errors.base import ServingError
from serving.errors.failures import (
    BodiesFullError,
    DeadlineError,
    DeadlineTooShortError,
    DecodersFullError,
    NotReadyError,
    PoolFullError,
    ProviderError,
    StageError,
    WorkerError,
)
from serving.errors.http import (
    BodyTimeoutError,
    BodyTooLargeError,
    ContentEncodingError,
    EmptyBodyError,
    HeadTooLargeError,
    HttpVersionError,
    MalformedBodyError,
    MalformedRequestError,
    TargetTooLongError,
)
from serving.errors.images import (
    DamagedImageError,
    ImageTooLargeError,
    NotAnImageError,
    UnsupportedImageError,
)
from serving.errors.requests import (
    BudgetTooLowError,
    InvalidRequestError,
    ModelLoadError,
    NoAdminError,
    ParameterError,
    UnauthorizedError,
    UnknownBudgetError,
    UnknownModelError,
    UnknownParameterError,
    UnknownPromiseError,
)

__all__ = [
    "BodiesFullError",
    "BodyTimeoutError",
    "BodyTooLargeError",
    "BudgetTooLowError",
    "ContentEncodingError",
    "DamagedImageError",
    "DeadlineError",
    "DeadlineTooShortError",
    "DecodersFullError",
    "EmptyBodyError",
    "HeadTooLargeError",
    "HttpVersionError",
    "ImageTooLargeError",
    "InvalidRequestError",
    "MalformedBodyError",
    "MalformedRequestError",
    "ModelLoadError",
    "NoAdminError",
    "NotAnImageError",
    "NotReadyError",
    "ParameterError",
    "PoolFullError",
    "ProviderError",
    "ServingError",
    "StageError",
    "TargetTooLongError",
    "UnauthorizedError",
    "UnknownBudgetError",
    "UnknownModelError",
    "UnknownParameterError",
    "UnknownPromiseError",
    "UnsupportedImageError",
    "WorkerError",
]
