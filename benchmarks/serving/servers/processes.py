"""Start a server as a process, measure its CPU time and memory, and stop it.

CPU time and memory are summed over the whole process tree, read from /proc.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from offramp.load.connection import HOST
from offramp.load.outcomes import OK

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 240.0  # seconds, longest start
PORT = "{port}"


@dataclass(frozen=True, slots=True)
class Server:
    """Command of a server and the requests that it takes.

    Attributes:
        name: Name in tables.
        command: Command, with PORT in place of the port.
        paths: Path and query of each budget that it supports. Peers support `full` only.
        environment: Variables on top of this process's environment.
        headers: Header fields of each request, on top of the common ones.
        folder: Working directory, or `None` for this process's.
    """

    name: str
    command: Sequence[str]
    paths: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far and resident bytes of a process tree."""

    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Running:
    """Server that is ready."""

    server: Server
    port: int
    pid: int

    def usage(self) -> Usage:
        """Return CPU time and memory of all its processes."""
        return usage(self.pid)


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    parent: int
    session: int
    cpu: float
    memory: int


def _processes() -> Iterator[_Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                # the name, in brackets, can have any characters; proc(5): state is field 3
                text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
                fields = text.rpartition(")")[2].split()
                ticks = sum(map(int, fields[11:15]))  # its own and those of ended children
                yield _Process(
                    int(folder.name),
                    int(fields[1]),
                    int(fields[3]),
                    ticks / TICKS,
                    int(fields[21]) * PAGE,
                )


def process_tree(pid: int) -> list[_Process]:
    """Return a process, its session and all their descendants."""
    running = list(_processes())
    found = {p.pid: p for p in running if p.pid == pid or p.session == pid}
    grown = True
    while grown:
        more = {p.pid: p for p in running if p.parent in found and p.pid not in found}
        found |= more
        grown = bool(more)
    return list(found.values())


def usage(pid: int) -> Usage:
    """Return CPU time and memory of a process tree."""
    members = process_tree(pid)
    return Usage(sum(p.cpu for p in members), sum(p.memory for p in members))


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def started(server: Server, image: bytes, logs: Path) -> Iterator[Running]:
    """Start a server, wait until it has classified an image, and stop it with the context.

    Raises:
        RuntimeError: The server ended, or was not ready in time. The text names its log.
    """
    port = free_port()
    command = [part.replace(PORT, str(port)) for part in server.command]
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{server.name}.log"
    with path.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **server.environment},
            cwd=server.folder,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, process, port, image, path)
        yield Running(server, port, process.pid)
    finally:
        _stop(process)


def _wait_until_ready(
    server: Server, process: subprocess.Popen[bytes], port: int, image: bytes, log: Path
) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        for path in server.paths.values():
            if not _is_ready(port, path, image, server.headers):
                break
        else:
            return
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{server.name} did not start: see {log}")
        time.sleep(0.1)


def _is_ready(port: int, path: str, image: bytes, headers: Mapping[str, str]) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("POST", path, image, {"Content-Type": "image/jpeg", **headers})
        response = connection.getresponse()
        response.read()
        return response.status == OK
    except OSError:
        return False
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Terminate the first process, then kill the rest of its tree."""
    members = process_tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for member in {p.pid for p in members} | {p.pid for p in process_tree(process.pid)}:
        if member != process.pid or process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
    process.wait()
