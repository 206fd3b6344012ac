"""A server as a command: started, waited for, its CPU time and memory read, and stopped.

CPU time and memory are summed over the command's whole family, by /proc.
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

from benchmarks.serving.generator.connection import HOST
from benchmarks.serving.generator.outcomes import OK

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 240.0  # seconds that a start may take
PORT = "{port}"


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started.

    Args:
        name: in tables.
        command: with PORT where the port goes.
        paths: path and query of each budget it knows; peers know `full` only.
        environment: on top of ours.
        headers: of each request, beside those that all have.
    """

    name: str
    command: Sequence[str]
    paths: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and resident bytes, of a family of processes."""

    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    server: Server
    port: int
    pid: int

    def usage(self) -> Usage:
        """Of all its processes."""
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
                # the name, in brackets, may hold anything; proc(5): state is field 3
                fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                ticks = sum(map(int, fields[11:15]))  # own and of children that have ended
                yield _Process(
                    int(folder.name),
                    int(fields[1]),
                    int(fields[3]),
                    ticks / TICKS,
                    int(fields[21]) * PAGE,
                )


def family(pid: int) -> list[_Process]:
    """A process, its session and all their descendants."""
    everyone = list(_processes())
    found = {p.pid: p for p in everyone if p.pid == pid or p.session == pid}
    grown = True
    while grown:
        more = {p.pid: p for p in everyone if p.parent in found and p.pid not in found}
        found |= more
        grown = bool(more)
    return list(found.values())


def usage(pid: int) -> Usage:
    """CPU time and memory of a family."""
    members = family(pid)
    return Usage(sum(p.cpu for p in members), sum(p.memory for p in members))


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@contextmanager
def started(server: Server, image: bytes, logs: Path) -> Iterator[Running]:
    """Start a server, wait until it has classified an image, and stop it at the end.

    Raises:
        RuntimeError: it ended, or did not answer in time; names the log.
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
        _wait_until_it_answers(server, process, port, image, path)
        yield Running(server, port, process.pid)
    finally:
        _stop(process)


def _wait_until_it_answers(
    server: Server, process: subprocess.Popen[bytes], port: int, image: bytes, log: Path
) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        for path in server.paths.values():
            if not _answers(port, path, image, server.headers):
                break
        else:
            return
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"{server.name} did not start; {log} says why")
        time.sleep(0.1)


def _answers(port: int, path: str, image: bytes, headers: Mapping[str, str]) -> bool:
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
    """Ask the first process to end, and make the family end."""
    members = family(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for member in {p.pid for p in members} | {p.pid for p in family(process.pid)}:
        if member != process.pid or process.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGKILL)
    process.wait()
