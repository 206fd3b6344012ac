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
from pathlib import Path

from offramp.bundle.manifest import Manifest, read_manifest
from offramp.errors import UsageError
from offramp.hub import local_bundle
from serving.http.app import Offramp, create_app
from serving.http.models.assembly import planner_of
from serving.models.catalog import Catalog
from serving.observe.log import set_up_log
from serving.observe.worker_metrics import WorkerMetrics, metrics_folder
from serving.processes.addresses import listen, reserve
from serving.processes.changes.graph_maker import GraphMaker, graph_maker_of
from serving.processes.changes.workers import WorkerChanges
from serving.processes.environment import key_warnings, unknown_variables
from serving.processes.hang_up import handling, hang_up_calls, hang_up_terminates
from serving.processes.server import freeze, serve
from serving.processes.supervisor import Supervisor
from serving.processes.worker import work
from serving.runtime.memory import use_one_heap
from serving.settings import Settings

MARGIN = 10.0  # seconds to end after drain_seconds, before a worker is killed
log = logging.getLogger("serving")


def run(settings: Settings) -> None:
    """Serve a bundle until SIGTERM or SIGHUP, or a folder of models until SIGTERM.

    Raises:
        BundleError: The bundle cannot be read.
        HubError: The bundle is on the hub, and cannot be downloaded.
        ServingError: The server cannot start.
        OSError: The address cannot be used.
        UsageError: The settings need an extra that is not installed.
        KeyboardInterrupt: Ctrl-C stopped the server, after the calls in progress ended.
    """
    set_up_log(settings.log_level)
    _log_warnings(settings)
    _check_extras(settings)
    settings.read_admin_key()  # so that it fails here
    if settings.models is not None:
        _serve_models(settings, settings.models)
    else:
        _serve_bundle(settings)


def _log_warnings(settings: Settings) -> None:
    for warning in (*unknown_variables(os.environ), *key_warnings(os.environ)):
        log.warning(warning)
    if settings.models is not None and settings.bundle is not None:
        log.warning("--models is served, and the bundle %s is not", settings.bundle)


def _check_extras(settings: Settings) -> None:
    if settings.grpc_port is not None:
        _check_extra("--grpc-port", "grpc", "grpc")
    if settings.otlp_endpoint is not None:
        _check_extra("--otlp-endpoint", "tracing", "opentelemetry.exporter.otlp.proto.grpc")
        log.info("traces to %s", settings.otlp_endpoint)


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


def _serve_bundle(settings: Settings) -> None:
    """Serve a bundle. SIGHUP ends the server."""
    settings = settings.model_copy(update={"bundle": local_bundle(settings.folder)})
    manifest = read_manifest(settings.folder)
    with hang_up_terminates():
        if settings.workers > 1:
            _supervise(settings, manifest, _bundle_banner(manifest))
        else:
            _serve_alone(settings, create_app(settings, manifest), _bundle_banner(manifest))


def _serve_models(settings: Settings, folder: Path) -> None:
    """Serve a folder of models. SIGHUP loads what changed in it."""
    use_one_heap()
    planner = planner_of(settings, folder)
    catalog = planner.start()
    _check_default_model(settings.default_model, folder, catalog)
    served = ", ".join(f"{each.name} {each.version}" for each in catalog.entries())
    if settings.workers > 1:
        maker = graph_maker_of(settings, planner.folder)
        _supervise(settings, None, served, WorkerChanges(planner, catalog, maker), maker)
        return
    with hang_up_calls(lambda: None):  # until the server does what it asks for
        freeze()
        _serve_alone(settings, create_app(settings), served)


def _check_default_model(name: str | None, folder: Path, catalog: Catalog) -> None:
    if name is not None and name not in catalog.models:
        raise UsageError(f"--default-model: {folder} has no model {name!r}")


def _serve_alone(settings: Settings, app: Offramp, served: str) -> None:
    listener = listen(settings.host, settings.port)
    with _grpc_port(settings) as port:
        log.info(_banner(served, settings, listener))
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

    with handling(signal.SIGINT, interrupt):
        yield
    if interrupted:
        raise KeyboardInterrupt


def _supervise(
    settings: Settings,
    manifest: Manifest | None,
    served: str,
    changes: WorkerChanges | None = None,
    maker: GraphMaker | None = None,
) -> None:
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
            changes=changes,
            maker=maker,
        ).run(lambda: log.info(_banner(served, settings, place)))


def _bundle_banner(manifest: Manifest) -> str:
    budgets = ", ".join(
        f"{name} {point.mean_flops.value / manifest.full_flops:.0%}"
        for name, point in manifest.budgets.items()
    )
    return f"{manifest.name} {manifest.version} ({manifest.exits} exits, budgets {budgets})"


def _banner(served: str, settings: Settings, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    workers = f"{settings.workers} workers of " if settings.workers > 1 else ""
    return (
        f"serving {served} "
        f"on {settings.provider}, {workers}{settings.threads} threads, {settings.slots} slots, "
        f"at http://{f'[{host}]' if ':' in host else host}:{port}"
    )
