"""`python -m serving --bundle DIR`: serve a bundle until SIGTERM."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Sequence
from functools import partial

from pydantic import ValidationError

from offramp.bundle.manifest import Manifest, read_manifest
from offramp.errors import OfframpError
from serving.http.app import create_app
from serving.observe.log import set_up_log
from serving.observe.worker_metrics import WorkerMetrics, metrics_folder
from serving.processes.server import listen, reserve, serve, work
from serving.processes.supervisor import Supervisor
from serving.settings import Settings

MARGIN = 10.0  # seconds to end after drain_seconds, before a worker is killed
log = logging.getLogger("serving")


def main(arguments: Sequence[str]) -> int:
    """Serve. The exit code: 1 for a bundle or an address that will not do, 2 for a bad option."""
    try:
        settings = Settings(_cli_parse_args=list(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return _refuse(2, f"{'.'.join(map(str, first['loc']))}: {first['msg']} (see --help)")
    set_up_log(settings.log_level)
    try:
        manifest = read_manifest(settings.bundle)
        if settings.workers > 1:
            _supervise(settings, manifest)
        else:
            _serve_alone(settings, manifest)
    except (OfframpError, OSError) as error:
        return _refuse(1, str(error))
    return 0


def _serve_alone(settings: Settings, manifest: Manifest) -> None:
    app = create_app(settings, manifest)
    listener = listen(settings.host, settings.port)
    log.info(_banner(manifest, settings, listener))
    serve(app, settings, listener)


def _supervise(settings: Settings, manifest: Manifest) -> None:
    with reserve(settings.host, settings.port) as place, metrics_folder() as folder:
        Supervisor(
            partial(work, settings, manifest, place.getsockname()[1], folder),
            settings.workers,
            patience=settings.drain_seconds + MARGIN,
            bury=lambda number: WorkerMetrics(folder, number).remove_dead(),
        ).run(lambda: log.info(_banner(manifest, settings, place)))


def _refuse(code: int, text: str) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
