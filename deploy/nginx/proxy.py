"""Run a real nginx on loopback with the shipped example."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.servers.processes import free_port
from deploy.check.programs import SOURCES, find

EXAMPLE = Path(__file__).parent / "offramp.conf"
PREFIX = "/offramp"
SERVER, LISTEN = "server 127.0.0.1:8000;", "listen 80;"
# One process with the rights of this user. All that it writes is in one folder.
AROUND = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/offramp.conf;
}}
"""


def configured(server: str, port: int) -> str:
    """Return the example with the address of a server, and a port of loopback to listen on.

    Raises:
        ValueError: The example does not have each of the two lines once.
    """
    text = EXAMPLE.read_text(encoding="utf-8")
    for line, ours in ((SERVER, f"server {server};"), (LISTEN, f"listen 127.0.0.1:{port};")):
        if text.count(line) != 1:
            raise ValueError(f"{EXAMPLE.name} has no line `{line}`, or several")
        text = text.replace(line, ours)
    return text


@contextmanager
def proxying(server: str, folder: Path) -> Iterator[str]:
    """Run nginx in front of a server, yield its URL, and stop it at the end.

    Args:
        server: Host and port of the server.
        folder: Folder for everything that nginx writes.

    Raises:
        FileNotFoundError: nginx is not installed.
        RuntimeError: nginx refuses the configuration, or did not start.
    """
    program = find("nginx")
    if program is None:
        raise FileNotFoundError(f"nginx: not installed ({SOURCES['nginx']})")
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "offramp.conf").write_text(configured(server, port), encoding="utf-8")
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder), encoding="utf-8")
    command = [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c"]
    command.append(str(folder / "nginx.conf"))
    _check_configuration(command)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_it_listens(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("nginx did not start")


def _check_configuration(command: Sequence[str]) -> None:
    """Let nginx test its configuration. A warning is an error too."""
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    if tested.returncode or "[warn]" in tested.stderr:
        raise RuntimeError(f"nginx refuses the example: {tested.stderr.strip()}")
