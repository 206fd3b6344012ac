"""What the endpoints work with, put together once."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from offramp.bundle.manifest import Manifest
from serving.engine.engine import Engine
from serving.errors import UnauthorizedError
from serving.http.body import BodyReader
from serving.images.decoder import Decoder
from serving.observe.metrics import Metrics


@dataclass(frozen=True, slots=True)
class ServerContext:
    """What the endpoints work with.

    Attributes:
        description: what /model answers, as JSON.
        max_images: of one call.
        api_key: that /classify and /model ask for, if any.
    """

    manifest: Manifest
    description: bytes
    engine: Engine
    body_reader: BodyReader
    decoder: Decoder
    metrics: Metrics
    max_images: int
    api_key: str | None

    def authenticate(self, authorization: str) -> None:
        """Let pass who sends the API key; everybody, if there is none.

        Args:
            authorization: the header of that name, or nothing.

        Raises:
            UnauthorizedError: the key is missing or wrong.
        """
        if self.api_key is None:
            return
        scheme, _, given = authorization.partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self.api_key.encode())
        if scheme.lower() != "bearer" or not right:
            raise UnauthorizedError(
                "the API key is missing or wrong; send Authorization: Bearer KEY"
            )
