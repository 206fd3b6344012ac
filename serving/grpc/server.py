"""The gRPC server of a process: its port, its limits, start and stop.

It runs on the event loop of the engine. Workers listen on the same port, as for HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from serving.grpc.http2.answering import Bounds, Shared
from serving.grpc.http2.connection import Connection
from serving.grpc.http2.streams import Held
from serving.grpc.service import Service
from serving.http.app import Offramp
from serving.settings import Settings

SPARE_BYTES = 64 << 10  # of a message, besides its tensors
CALLS = 2  # for each slot; a call above that is refused
CHECK_SECONDS = 0.05  # while it stops
log = logging.getLogger(__name__)


class GrpcServer:
    """The server. Start it on the event loop.

    Args:
        app: The app that serves HTTP.
        settings: All settings.
        listen: Returns the listening socket. Raises an `OSError` if the address cannot be used.
    """

    def __init__(
        self, app: Offramp, settings: Settings, listen: Callable[[], socket.socket]
    ) -> None:
        bounds = Bounds(
            settings.max_body_bytes + SPARE_BYTES, CALLS * settings.slots, settings.body_seconds
        )
        service = Service(app.served, settings.max_images)
        self._shared = Shared(service, bounds, Held(settings.max_held_bytes))
        self._listen = listen
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be used.
        """
        loop, place = asyncio.get_running_loop(), self._listen()
        log.info("gRPC at %s:%d", *place.getsockname()[:2])
        self._server = await loop.create_server(lambda: Connection(self._shared), sock=place)

    async def stop(self, seconds: float) -> None:
        """Take no more calls. Let those under way end within `seconds`, then cancel them."""
        if self._server is None:
            return
        self._server.close()
        connections = self._shared.connections
        for each in [*connections]:
            each.leave()
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while connections and loop.time() < end:  # noqa: ASYNC110  many events, once
            await asyncio.sleep(CHECK_SECONDS)
        for each in [*connections]:
            each.abort()
