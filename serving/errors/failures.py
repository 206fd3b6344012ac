"""Errors of the server: it cannot start, failed, is not ready, is full, or too slow."""

from __future__ import annotations

from types import MappingProxyType

from serving.errors.base import ServingError


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
