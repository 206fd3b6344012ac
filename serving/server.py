"""An app on a socket: the whole server, or one of its worker processes."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from serving.app import create_app
from serving.errors import OfframpError
from serving.log import set_up_log
from serving.manifest import Manifest
from serving.settings import Settings
from serving.shared import Shared
from serving.supervisor import end_with_parent


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: the address will not do; it says which.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def serve(
    app: FastAPI,
    settings: Settings,
    listener: socket.socket,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve the app until SIGTERM, and until the calls under way have ended."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    config.load()
    ready()
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def work(
    settings: Settings,
    manifest: Manifest,
    folder: Path,
    number: int,
    listener: socket.socket,
    news: Connection,
) -> None:
    """A worker process: serve on `listener`, and tell the supervisor once it does.

    It serves the manifest that the supervisor read: a bundle that was changed meanwhile is refused.
    """
    set_up_log(settings.log_level)
    end_with_parent()
    shared = Shared(folder, number)
    shared.enter()
    try:
        app = create_app(settings, manifest, shared)
    except OfframpError as error:
        news.send(str(error))
        sys.exit(1)
    serve(app, settings, listener, lambda: news.send(None))
