"""The objects that the endpoints share, built once at start."""

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
    """The objects and limits that the endpoints use.

    Attributes:
        description: Response body of /model, JSON.
        max_images: Largest number of images in one call.
        api_key: Key that /classify and /model require. `None` for no key.
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
        """Check the API key of a call, if the server has one.

        Args:
            authorization: Header of this name, or an empty string.

        Raises:
            UnauthorizedError: The key is missing or wrong.
        """
        if self.api_key is None:
            return
        scheme, _, given = authorization.partition(" ")
        right = hmac.compare_digest(given.strip().encode(), self.api_key.encode())
        if scheme.lower() != "bearer" or not right:
            raise UnauthorizedError(
                "the API key is missing or wrong; send Authorization: Bearer KEY"
            )
