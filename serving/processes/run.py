"""The server as a command runs it: in this process, or as workers under a supervisor."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec

from offramp.bundle.manifest import Manifest, read_manifest
from offramp.errors import UsageError
from offramp.hub import local_bundle
from serving.http.app import create_app
from serving.observe.log import set_up_log
from serving.observe.worker_metrics import WorkerMetrics, metrics_folder
from serving.processes.environment import key_warnings, unknown_variables
from serving.processes.hang_up import hang_up_terminates
from serving.processes.server import listen, reserve, serve, work
from serving.processes.supervisor import Supervisor
from serving.settings import Settings

MARGIN = 10.0  # seconds to end after drain_seconds, before a worker is killed
log = logging.getLogger("serving")


def run(settings: Settings) -> None:
    """Serve a bundle until SIGTERM or SIGHUP.

    Raises:
        BundleError: The bundle cannot be read.
        HubError: The bundle is on the hub, and cannot be downloaded.
        ServingError: The server cannot start.
        OSError: The address cannot be used.
        UsageError: The settings need an extra that is not installed.
        KeyboardInterrupt: Ctrl-C stopped the server, after the calls in progress ended.
    """
    set_up_log(settings.log_level)
    for warning in (*unknown_variables(os.environ), *key_warnings(os.environ)):
        log.warning(warning)
    if settings.grpc_port is not None:
        _check_extra("--grpc-port", "grpc", "grpc")
    if settings.otlp_endpoint is not None:
        _check_extra("--otlp-endpoint", "tracing", "opentelemetry.exporter.otlp.proto.grpc")
        log.info("traces to %s", settings.otlp_endpoint)
    settings = settings.model_copy(update={"bundle": local_bundle(settings.bundle)})
    manifest = read_manifest(settings.bundle)
    with hang_up_terminates():
        if settings.workers > 1:
            _supervise(settings, manifest)
        else:
            _serve_alone(settings, manifest)


def _check_extra(option: str, extra: str, module: str) -> None:
    """Check that an extra is installed, by one of its modules.

    Raises:
        UsageError: It is not.
    """
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # a package that has it
        found = None
    if found is None:
        raise UsageError(f"{option} needs the extra {extra}: pip install 'offramp[{extra}]'")


def _serve_alone(settings: Settings, manifest: Manifest) -> None:
    app = create_app(settings, manifest)
    listener = listen(settings.host, settings.port)
    with _grpc_port(settings) as port:
        log.info(_banner(manifest, settings, listener))
        with _interrupt_at_end():
            serve(app, settings, listener, port)


@contextmanager
def _grpc_port(settings: Settings) -> Iterator[int | None]:
    """Reserve the port for gRPC, if there is to be one."""
    if settings.grpc_port is None:
        yield None
        return
    with reserve(settings.host, settings.grpc_port) as place:
        yield place.getsockname()[1]


@contextmanager
def _interrupt_at_end() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end if Ctrl-C stopped the server.

    uvicorn handles the signal while it serves, and repeats it afterwards.
    """
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt


def _supervise(settings: Settings, manifest: Manifest) -> None:
    with (
        reserve(settings.host, settings.port) as place,
        _grpc_port(settings) as grpc_port,
        metrics_folder() as folder,
    ):
        Supervisor(
            partial(work, settings, manifest, (place.getsockname()[1], grpc_port), folder),
            settings.workers,
            patience=settings.drain_seconds + MARGIN,
            bury=lambda number: WorkerMetrics(folder, number).remove_dead(),
        ).run(lambda: log.info(_banner(manifest, settings, place)))


def _banner(manifest: Manifest, settings: Settings, listener: socket.socket) -> str:
    budgets = ", ".join(
        f"{name} {point.mean_flops.value / manifest.full_flops:.0%}"
        for name, point in manifest.budgets.items()
    )
    host, port = listener.getsockname()[:2]
    workers = f"{settings.workers} workers of " if settings.workers > 1 else ""
    return (
        f"serving {manifest.name} {manifest.version} ({manifest.exits} exits, budgets {budgets}) "
        f"on {settings.provider}, {workers}{settings.threads} threads, {settings.slots} slots, "
        f"at http://{f'[{host}]' if ':' in host else host}:{port}"
    )
