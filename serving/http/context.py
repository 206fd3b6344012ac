"""The objects that the endpoints share, built once at start."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from offramp.bundle.manifest import Manifest
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.engine import Engine
from serving.errors import UnauthorizedError
from serving.http.bodies.body import BodyReader
from serving.http.tracing.trace import Tracing
from serving.images.decoder import Decoder
from serving.observe.metrics import Metrics


@dataclass(frozen=True, slots=True)
class ServerContext:
    """The objects and limits that the endpoints use.

    Attributes:
        milliseconds: Operating points by the times of this server.
        max_images: Largest number of images in one call.
        api_key: Key that calls need to classify and to describe models. `None` for no key.
        tracing: Traces of requests. `None`: they are off.
    """

    manifest: Manifest
    milliseconds: Milliseconds
    engine: Engine
    body_reader: BodyReader
    decoder: Decoder
    metrics: Metrics
    max_images: int
    api_key: str | None
    tracing: Tracing | None = None

    def authenticate(self, authorization: str) -> None:
        """Check the API key of a call, if the server has one.

        Args:
            authorization: Header of this name as ASGI decodes it (Latin-1), or an empty string.

        Raises:
            UnauthorizedError: The key is missing or wrong.
        """
        if self.api_key is not None:
            _compare(self.api_key, authorization.encode("latin-1"))

    def authenticate_all(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Check the API key in all headers of a call, names in lower case.

        Raises:
            UnauthorizedError: The key is missing or wrong, or there are several.
        """
        check_key(self.api_key, headers)


def check_key(key: str | None, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Check a key in all headers of a call, names in lower case. `None`: no key is required.

    Raises:
        UnauthorizedError: The key is missing or wrong, or there are several.
    """
    if key is None:
        return
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) > 1:
        raise UnauthorizedError("there are several Authorization headers; send one")
    _compare(key, found[0] if found else b"")


def _compare(key: str, authorization: bytes) -> None:
    scheme, _, given = authorization.partition(b" ")
    right = hmac.compare_digest(given.strip(b" \t"), key.encode())
    if scheme.lower() != b"bearer" or not right:
        raise UnauthorizedError("the API key is missing or wrong; send Authorization: Bearer KEY")
