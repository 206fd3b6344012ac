"""Real servers: in a thread of the test, or as the command that users run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from offramp.bundle.manifest import Manifest
from serving.http.app import Offramp, create_app
from serving.processes.addresses import listen, reserve
from serving.processes.server import Server, grpc_door
from serving.runtime.cpu import CpuRuntime
from serving.settings import Settings

Encode = Callable[..., bytes]
WaitUntil = Callable[..., None]
Serve = Callable[..., AbstractContextManager["Running"]]
Start = Callable[..., AbstractContextManager["Process"]]


class GatedRuntime(CpuRuntime):
    """The real runtime, whose stages block until a test opens their gates."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        super().__init__(folder, manifest)
        self.gates = [threading.Event() for _ in manifest.stages]
        self.entered = [threading.Event() for _ in manifest.stages]
        self.batches: list[tuple[int, int]] = []
        self.heads: list[bool] = []
        self.whole: list[int] = []  # sizes of batches that ran all stages at once
        self.fail_at: int | None = None
        self.open()

    def open(self) -> None:
        for gate in self.gates:
            gate.set()

    def shut(self, stage: int) -> None:
        """Block batches of a stage (from 0)."""
        self.gates[stage].clear()
        self.entered[stage].clear()

    def run(self, stage: int, inputs: Any, *, head: bool = True) -> Any:
        self.entered[stage].set()
        assert self.gates[stage].wait(30)
        self.heads.append(head)
        self.batches.append((stage, len(next(iter(inputs.values())))))
        if self.fail_at == stage:
            raise RuntimeError("the device fell over")
        return super().run(stage, inputs, head=head)

    def run_whole(self, inputs: Any) -> Any:
        for entered, gate in zip(self.entered, self.gates, strict=True):
            entered.set()
            assert gate.wait(30)
        self.whole.append(len(next(iter(inputs.values()))))
        if self.fail_at is not None:
            raise RuntimeError("the device fell over")
        return super().run_whole(inputs)


@dataclass
class Running:
    """A server on loopback, in a thread."""

    app: Offramp
    url: str
    port: int
    server: Server
    grpc_port: int | None = None

    def stop(self) -> None:
        """Stop as at SIGTERM."""
        self.server.stop()

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def gate(self, runtime: GatedRuntime) -> None:
        self.app.engine.stage_threads.runtime = runtime

    def free_slots(self) -> int:
        return self.app.engine.pool.free


@contextmanager
def serving(bundle: Path | None, *, on_device: bool = False, **options: Any) -> Iterator[Running]:
    """Serve a bundle, or `models=FOLDER`, as `python -m serving`, but in a thread."""
    defaults = {"threads": 2, "max_batch": 8, "drain_seconds": 10}
    settings = Settings(bundle=bundle, **{**defaults, **options})
    app = create_app(settings, on_device=on_device)
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    place = None if settings.grpc_port is None else reserve("127.0.0.1", settings.grpc_port)
    grpc_port: int | None = None if place is None else place.getsockname()[1]
    server = Server(app, settings, door=grpc_door(app, settings, grpc_port))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until(lambda: server.started)
        yield Running(app, f"http://127.0.0.1:{port}", port, server, grpc_port)
    finally:
        server.stop()
        thread.join(20)
        if place is not None:
            place.close()
    assert not thread.is_alive()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.002)


def refused(host: str, port: str | int) -> bool:
    """Return True if no socket takes connections there."""
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def command_of(process: str) -> bytes:
    """Return the command line of a process, empty if it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


@dataclass
class Process:
    """A process that runs `python -m serving`."""

    popen: subprocess.Popen[str]
    url: str
    banner: str

    def memory(self, field: str) -> int:
        """Return `VmRSS` or `VmHWM` (its peak), in bytes."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(status.split(f"{field}:")[1].split()[0]) * 1024

    @property
    def workers(self) -> list[int]:
        """The ids of the worker processes."""
        children = Path(f"/proc/{self.popen.pid}/task/{self.popen.pid}/children").read_text()
        return [int(child) for child in children.split() if b"spawn_main" in command_of(child)]


@contextmanager
def started(
    bundle: Path,
    *flags: str,
    module: Sequence[str] = ("serving",),
    option: str = "--bundle",
    **environment: str,
) -> Iterator[Process]:
    """Run `python -m serving`, or another module that serves, until the context ends."""
    command = [sys.executable, "-m", *module, option, str(bundle), "--port", "0", *flags]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as popen:
        assert popen.stderr is not None
        try:  # workers can log before their supervisor does
            messages = (json.loads(line)["message"] for line in popen.stderr)
            banner = next(message for message in messages if message.startswith("serving "))
            yield Process(popen, banner.rpartition(" ")[2], banner)
        finally:
            popen.terminate()  # a killed supervisor would leave its folder behind
            with suppress(subprocess.TimeoutExpired):
                popen.wait(10)
            popen.kill()
