"""An app on a socket: the whole server, or one of its worker processes."""

from __future__ import annotations

import gc
import socket
import sys
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from offramp.bundle.manifest import Manifest
from offramp.errors import OfframpError
from serving.http.app import create_app
from serving.http.connection import Connection
from serving.observe.log import set_up_log
from serving.observe.worker_metrics import WorkerMetrics
from serving.processes.supervisor import end_with_parent
from serving.settings import Settings

# Seconds; more than the 60 of usual load balancers, which must be those who close idle connections.
KEEP_ALIVE = 75


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        host: name or address.
        port: number, or 0 for any free one.
        shared: with other workers' sockets; the kernel spreads connections over those that listen.

    Raises:
        OSError: the address will not do; it says which.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048, reuse_port=shared)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def reserve(host: str, port: int) -> socket.socket:
    """A socket that keeps an address for workers, and does not listen itself.

    Raises:
        OSError: the address will not do, or another server has it.
    """
    with listen(host, port) as alone:  # two servers that share would not notice one another
        address = alone.getsockname()
    place = socket.socket(alone.family)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    place.bind(address)
    return place


def serve(app: FastAPI, settings: Settings, listener: socket.socket) -> None:
    """Serve the app until SIGTERM, and until the calls under way have ended."""
    config = uvicorn.Config(
        app,
        http=Connection,
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not go through it again and again
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def work(
    settings: Settings, manifest: Manifest, port: int, folder: Path, number: int, news: Pipe
) -> None:
    """A worker process: serve on `port`, and tell the supervisor that it does.

    It serves the manifest that the supervisor read: a bundle that was changed meanwhile is refused.
    """
    set_up_log(settings.log_level)
    end_with_parent()
    shared = WorkerMetrics(folder, number)
    shared.activate()
    try:
        app = create_app(settings, manifest, shared)
        listener = listen(settings.host, port, shared=True)
    except (OfframpError, OSError) as error:
        news.send(str(error))
        sys.exit(1)
    news.send(None)
    serve(app, settings, listener)
