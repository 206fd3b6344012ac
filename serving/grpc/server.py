"""The gRPC server of a process: its port, its limits, start and stop.

It runs on the event loop of the engine. Workers listen on the same port, as for HTTP.
"""

from __future__ import annotations

import logging

import grpc

from serving.grpc.inference import Inference
from serving.grpc.service import Service
from serving.http.app import Offramp
from serving.settings import Settings

MAX_METADATA_BYTES = 16 << 10
SPARE_BYTES = 64 << 10  # of a message, besides its tensors
IDENTITY = 1  # set of compressions: none. A compressed message could be far larger than its bytes.
STREAMS = 2  # calls for each slot; a call above that is refused
LEAST_RECEIVING = 16
log = logging.getLogger(__name__)


class GrpcServer:
    """The server. Start it on the event loop.

    Args:
        app: The app that serves HTTP.
        settings: All settings.
        port: Number of the port, which `serving.processes` has reserved.
    """

    def __init__(self, app: Offramp, settings: Settings, port: int) -> None:
        self._app = app
        self._settings = settings
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        self._address = f"{host}:{port}"
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be used.
        """
        settings = self._settings
        receiving = max(LEAST_RECEIVING, settings.max_held_bytes // settings.max_body_bytes)
        served = self._app.served
        inference = Inference(served, settings.max_images, receiving, settings.body_seconds)
        calls = STREAMS * settings.slots
        self._server = grpc.aio.server(
            handlers=[Service(served, inference).handler()],
            maximum_concurrent_rpcs=calls,
            options=_options(settings.max_body_bytes, calls),
        )
        self._listen(self._server)
        await self._server.start()
        log.info("gRPC at %s", self._address)

    def _listen(self, server: grpc.aio.Server) -> None:
        try:
            server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {self._address} for gRPC: {error}") from error

    async def stop(self, seconds: float) -> None:
        """Take no more calls. Let those under way end within `seconds`, then cancel them."""
        if self._server is not None:
            await self._server.stop(seconds)


def _options(max_body_bytes: int, calls: int) -> list[tuple[str, int]]:
    """Return the limits of a server with so many calls at once."""
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_body_bytes + SPARE_BYTES),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", calls),
        ("grpc.compression_enabled_algorithms_bitset", IDENTITY),
    ]
