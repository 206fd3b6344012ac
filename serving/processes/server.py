"""An app on a socket: the whole server, or one of its worker processes."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from queue import SimpleQueue
from time import sleep
from types import FrameType
from typing import Protocol

import uvicorn

from offramp.bundle.manifest import Manifest
from offramp.errors import OfframpError
from serving.errors import NotReadyError
from serving.http.app import Offramp, create_app
from serving.http.connection import Connection
from serving.observe.log import set_up_log
from serving.observe.worker_metrics import WorkerMetrics
from serving.processes.descriptors import DescriptorCheck
from serving.processes.hang_up import hang_up_terminates
from serving.processes.supervisor import end_with_parent
from serving.settings import Settings

# Seconds. More than the 60 of common load balancers, so that they close idle connections first.
KEEP_ALIVE = 75
TICKS = 10  # of uvicorn in a second
GRACE = 2.0  # seconds after drain_seconds in which a process ends by itself
LOG_SECONDS = 0.2  # for a last line in the log, which can be what hangs
log = logging.getLogger(__name__)


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Return a listening socket.

    Args:
        host: Name or address. `::` takes IPv4 connections too, if the system can.
        port: Number, or 0 for any free one.
        reuse_port: Let other workers listen on the same port. The kernel spreads connections over
            all of them.

    Raises:
        OSError: The address cannot be used. The text names it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port),
            family=family,
            backlog=2048,
            reuse_port=reuse_port,
            dualstack_ipv6=_takes_ipv4(family),
        )
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def _takes_ipv4(family: int) -> bool:
    """Return True for IPv6, if this system has sockets of both families."""
    return family == socket.AF_INET6 and socket.has_dualstack_ipv6()


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that reserves an address for workers and does not listen itself.

    Raises:
        OSError: The address cannot be used, or another server has it.
    """
    with listen(host, port) as alone:  # two servers that reuse a port would not notice each other
        address = alone.getsockname()
    place = socket.socket(alone.family)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if _takes_ipv4(place.family):
        place.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    place.bind(address)
    return place


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
        app.engine.when_broken(self.stop)

    def stop(self) -> None:
        """Stop as at SIGTERM: take no more connections, and let requests under way end."""
        self._app.begin_drain()
        self._on_stop()
        self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Check the descriptors once a second. uvicorn calls this ten times a second."""
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


class Watchdog:
    """Ends this process, with exit code 1, if it still runs some seconds after it began to stop.

    A thread that is stuck would keep it: the interpreter joins the threads of a pool at its end.

    Args:
        seconds: Time from `begin` to the end.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun: SimpleQueue[None] = SimpleQueue()  # a signal handler can call its put
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def begin(self) -> None:
        """Start the time."""
        self._begun.put(None)

    def _watch(self) -> None:
        self._begun.get()
        sleep(self._seconds)
        text = "the server did not stop within drain_seconds and is ended"
        threading.Thread(target=log.critical, args=(text,), daemon=True).start()
        sleep(LOG_SECONDS)
        os._exit(1)


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
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector skips it from now on
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    if (reason := app.engine.broken) is not None:
        raise NotReadyError(reason)


def work(
    settings: Settings,
    manifest: Manifest,
    ports: tuple[int, int | None],
    folder: Path,
    number: int,
    news: Pipe,
) -> None:
    """Serve on `ports` in a worker process, and send the supervisor `None` once it is ready.

    The manifest is the supervisor's: a bundle that was changed since then is refused. If the
    worker cannot start, or its engine breaks, it sends the reason and ends with exit code 1.
    """
    set_up_log(settings.log_level)
    end_with_parent()
    shared = WorkerMetrics(folder, number)
    try:
        with hang_up_terminates():
            shared.activate()
            app = create_app(settings, manifest, shared)
            http_port, grpc_port = ports
            listener = listen(settings.host, http_port, reuse_port=True)
            news.send(None)
            serve(app, settings, listener, grpc_port)
    except (OfframpError, OSError) as error:
        with suppress(OSError):
            news.send(str(error))
        sys.exit(1)
