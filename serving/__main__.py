"""`python -m serving --bundle DIR`: serve a bundle until SIGTERM."""

from __future__ import annotations

import gc
import json
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvicorn
from pydantic import ValidationError

from serving.app import create_app
from serving.errors import OfframpError
from serving.service import Service
from serving.settings import Settings

log = logging.getLogger("serving")


class OneLine(logging.Formatter):
    """A JSON object on one line for each record; a traceback is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


def main(arguments: Sequence[str]) -> int:
    """Serve. The exit code: 1 for a bundle or an address that will not do, 2 for a bad option."""
    try:
        settings = Settings(_cli_parse_args=list(arguments))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return _refuse(2, f"{'.'.join(map(str, first['loc']))}: {first['msg']} (see --help)")
    _set_up_log(settings.log_level)
    try:
        app = create_app(settings)
        listener = _listen(settings.host, settings.port)
    except (OfframpError, OSError) as error:
        return _refuse(1, str(error))
    gc.collect()
    gc.freeze()  # what is loaded stays: the collector need not go through it again and again
    log.info(_banner(app.state.service, settings, listener))
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _refuse(code: int, text: str) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code


def _set_up_log(level: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from error


def _banner(service: Service, settings: Settings, listener: socket.socket) -> str:
    manifest = service.manifest
    budgets = ", ".join(
        f"{name} {point.mean_flops.value / manifest.full_flops:.0%}"
        for name, point in manifest.budgets.items()
    )
    host, port = listener.getsockname()[:2]
    return (
        f"serving {manifest.name} {manifest.version} ({manifest.exits} exits, budgets {budgets}) "
        f"on {settings.provider}, {settings.threads} threads, {settings.slots} slots, "
        f"at http://{f'[{host}]' if ':' in host else host}:{port}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
