"""A worker process: one of several servers on the same ports, under a supervisor."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from offramp.bundle.manifest import Manifest
from offramp.errors import OfframpError
from serving.http.app import Offramp, create_app
from serving.http.models.assembly import Supervised
from serving.observe.log import set_up_log
from serving.observe.worker_metrics import WorkerMetrics
from serving.processes.addresses import listen
from serving.processes.changes.linked import LinkedChanges
from serving.processes.hang_up import hang_up_calls, hang_up_terminates
from serving.processes.server import freeze, serve
from serving.runtime.memory import use_one_heap
from serving.settings import Settings


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
    if manifest is None:
        use_one_heap()
    set_up_log(settings.log_level)
    end_with_parent()
    shared = WorkerMetrics(folder, number, settings.workers)
    try:
        with hang_up_terminates() if manifest else hang_up_calls(lambda: None):
            shared.activate()
            app = _app(settings, manifest, shared, news)
            http_port, grpc_port = ports
            listener = listen(settings.host, http_port, reuse_port=True)
            news.send(None)
            serve(app, settings, listener, grpc_port)
    except (OfframpError, OSError) as error:
        with suppress(OSError):
            news.send(str(error))
        sys.exit(1)


def _app(
    settings: Settings, manifest: Manifest | None, shared: WorkerMetrics, news: Pipe
) -> Offramp:
    """Load the bundle, or without a manifest the models of the supervisor's catalog."""
    if manifest is not None:
        return create_app(settings, manifest, shared)
    supervised = Supervised(news.recv(), partial(LinkedChanges, pipe=news))
    freeze()
    return create_app(settings, None, shared, supervised)


def end_with_parent() -> None:
    """End this worker as at SIGTERM if its supervisor is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="parent").start()
