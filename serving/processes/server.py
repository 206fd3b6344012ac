"""An app on a socket: the whole server, or one of its worker processes."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Protocol

import uvicorn

from offramp.tasks import start_task
from serving.errors import NotReadyError
from serving.http.app import Offramp
from serving.http.connection import Connection
from serving.processes.descriptors import DescriptorCheck
from serving.processes.hang_up import hang_up_calls
from serving.processes.watchdog import Watchdog
from serving.settings import Settings

# Seconds. More than the 60 of common load balancers, so that they close idle connections first.
KEEP_ALIVE = 75
TICKS = 10  # of uvicorn in a second
GRACE = 2.0  # seconds after drain_seconds in which a process ends by itself


class Door(Protocol):
    """A further server of the same engine, on the same event loop."""

    async def start(self) -> None:
        """Listen."""

    async def stop(self, seconds: float) -> None:
        """Take no more calls. Let those under way end within `seconds`, then cancel them."""


def grpc_door(app: Offramp, settings: Settings, port: int | None) -> Door | None:
    """Return the gRPC server of an app on a reserved port. `None` without a port."""
    if port is None:
        return None
    from serving.grpc.server import GrpcServer  # late: many installations do not have gRPC

    return GrpcServer(app, settings, port)


class Server(uvicorn.Server):
    """uvicorn for one app, which also stops if the engine breaks.

    Args:
        app: The app.
        settings: All settings.
        on_stop: Called when the server begins to stop, perhaps in a signal handler.
        door: A further server, which starts and stops with this one.
    """

    def __init__(
        self,
        app: Offramp,
        settings: Settings,
        on_stop: Callable[[], None] = lambda: None,
        door: Door | None = None,
    ) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            log_config=None,
            access_log=settings.log_level == "debug",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=settings.drain_seconds,
        )
        super().__init__(config)
        self._app = app
        self._on_stop = on_stop
        self._door = door
        self._descriptors = DescriptorCheck()
        self._reload = False
        self._reloading: set[asyncio.Task[None]] = set()
        app.when_broken(self.stop)

    def stop(self) -> None:
        """Stop as at SIGTERM: take no more connections, and let requests under way end."""
        self._app.begin_drain()
        self._on_stop()
        self.should_exit = True

    def reload(self) -> None:
        """Load the models that changed, soon. A signal handler can call this."""
        self._reload = True

    async def on_tick(self, counter: int) -> bool:
        """Check the descriptors once a second. uvicorn calls this ten times a second."""
        if self._reload and (repository := self._app.served.repository) is not None:
            self._reload = False
            start_task(repository.reload(), self._reloading)
        if counter % TICKS == 0:
            self._descriptors.run()
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        if self._door is not None:
            await self._door.start()
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let requests under way end, in the time that is left."""
        self._app.end_rests()
        if self._door is None:
            await super().shutdown(sockets)
            return
        closing = asyncio.create_task(self._door.stop(self._app.seconds_to_drain))
        await super().shutdown(sockets)
        await closing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop because of a signal."""
        self._app.begin_drain()
        self._on_stop()
        super().handle_exit(sig, frame)


def freeze() -> None:
    """Let the garbage collector skip what there is now. Models that can change are loaded later."""
    gc.collect()
    gc.freeze()


def serve(
    app: Offramp, settings: Settings, listener: socket.socket, grpc_port: int | None = None
) -> None:
    """Serve the app until SIGTERM, and until the calls under way have ended.

    The process is to end after this: a watchdog ends it `drain_seconds` and `GRACE` after it
    began to stop.

    Args:
        app: The app.
        settings: All settings.
        listener: Socket for HTTP.
        grpc_port: Reserved port for gRPC. `None`: no gRPC.

    Raises:
        NotReadyError: The engine broke. The text is the reason.
        OSError: The port for gRPC cannot be used.
    """
    door = grpc_door(app, settings, grpc_port)
    server = Server(app, settings, Watchdog(settings.drain_seconds + GRACE).begin, door)
    if settings.models is None:
        freeze()  # what is loaded stays
    with suppress(KeyboardInterrupt), hang_up_calls(server.reload if settings.models else None):
        server.run(sockets=[listener])
    if (reason := app.served.broken) is not None:
        raise NotReadyError(reason)
