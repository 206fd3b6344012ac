"""An app on a socket: the whole server, or one of its worker processes."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from types import FrameType
from typing import Protocol

import uvicorn

from offramp.bundle.manifest import Manifest
from offramp.errors import OfframpError
from serving.errors import NotReadyError
from serving.http.app import Offramp, create_app
from serving.http.connection import Connection
from serving.http.models.assembly import Supervised
from serving.observe.log import set_up_log
from serving.observe.worker_metrics import WorkerMetrics
from serving.processes.descriptors import DescriptorCheck
from serving.processes.hang_up import hang_up_calls, hang_up_terminates
from serving.processes.supervisor import end_with_parent
from serving.processes.watchdog import Watchdog
from serving.processes.worker_link import LinkedChanges
from serving.settings import Settings

# Seconds. More than the 60 of common load balancers, so that they close idle connections first.
KEEP_ALIVE = 75
TICKS = 10  # of uvicorn in a second
GRACE = 2.0  # seconds after drain_seconds in which a process ends by itself


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
            task = asyncio.create_task(repository.reload())
            self._reloading.add(task)
            task.add_done_callback(self._reloading.discard)
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


def work(
    settings: Settings,
    manifest: Manifest | None,
    ports: tuple[int, int | None],
    folder: Path,
    number: int,
    news: Pipe,
) -> None:
    """Serve on `ports` in a worker process, and send the supervisor `None` once it is ready.

    The manifest is the supervisor's: a bundle that was changed since then is refused. Without one,
    the supervisor sends the catalog of models first. If the worker cannot start, or an engine
    breaks, it sends the reason and ends with exit code 1.
    """
    set_up_log(settings.log_level)
    end_with_parent()
    shared = WorkerMetrics(folder, number)
    try:
        with hang_up_terminates() if manifest else hang_up_calls(lambda: None):
            shared.activate()
            supervised = None
            if manifest is None:
                supervised = Supervised(news.recv(), partial(LinkedChanges, pipe=news))
                freeze()
            app = create_app(settings, manifest, shared, supervised)
            http_port, grpc_port = ports
            listener = listen(settings.host, http_port, reuse_port=True)
            news.send(None)
            serve(app, settings, listener, grpc_port)
    except (OfframpError, OSError) as error:
        with suppress(OSError):
            news.send(str(error))
        sys.exit(1)
