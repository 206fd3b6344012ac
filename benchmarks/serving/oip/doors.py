"""Loads of the doors of one server: native API, the protocol over HTTP and over gRPC."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.serving.oip.forms import Bodies, Forms
from benchmarks.serving.oip.grpc_load import send_calls
from benchmarks.serving.oip.load import Measured
from benchmarks.serving.servers.processes import usage
from offramp.load.outcomes import BUDGET, OK, Plan
from offramp.load.sender import Load, send

NATIVE, HTTP, GRPC = "native API", "HTTP, binary", "gRPC"
# Servers of gRPC's library that answer at once, by the argument of `bare_grpc`.
BARE = {"aio": "bare grpc.aio", "threads": "bare grpc, threads"}
MOST_RATE = 10_000  # answers per second that a plan is made for
UNREAD = (-1, -1, -1, np.nan, BUDGET)  # in the place of an answer: the statuses suffice
PERCENTILE = 99
Loads = Mapping[str, Callable[[float], Measured]]  # of the seconds of a measurement


@dataclass(frozen=True, slots=True)
class Meter:
    """Measures one door.

    Attributes:
        name: Name of the door.
        port: Its port.
        pid: Process of its server.
        connections: Connections, with one request at a time each.
    """

    name: str
    port: int
    pid: int
    connections: int

    def http(self, path: str, sent: Bodies, seconds: float) -> Measured:
        """Send bodies in a closed loop."""
        count = round(MOST_RATE * seconds)
        images = np.arange(count) % len(sent.bodies)
        plan = Plan((path + sent.query,), np.zeros(count, np.int64), images)
        load, before = Load(self.port, self.connections, seconds, sent.headers), usage(self.pid)
        report = send(sent.bodies, plan, load, lambda *_: UNREAD)
        found = report.outcomes
        right = bool((found.status == OK).all())
        return self._measured(found.done - found.sent, report.wall, before.cpu, right=right)

    def grpc(self, messages: Sequence[bytes], seconds: float) -> Measured:
        """Send messages of gRPC in a closed loop."""
        before = usage(self.pid)
        found = send_calls(self.port, messages, self.connections, seconds)
        return self._measured(found.latency, found.wall, before.cpu, right=found.answered)

    def _measured(
        self, seconds: np.typing.NDArray[np.float64], wall: float, cpu: float, *, right: bool
    ) -> Measured:
        spent = usage(self.pid).cpu - cpu
        count = max(1, len(seconds))
        p99 = 1e3 * float(np.percentile(seconds, PERCENTILE)) if len(seconds) else np.nan
        return Measured(self.name, len(seconds) / wall, p99, 1e3 * spent / count, right)


def loads_of(model: str, ports: tuple[int, int], pid: int, forms: Forms, connections: int) -> Loads:
    """Return the loads of a server's doors.

    Args:
        model: Name of the model.
        ports: For HTTP and for gRPC.
        pid: Process of the server.
        forms: The images.
        connections: Connections of each load.
    """
    http, grpc = ports
    native, binary, messages = forms.native(), forms.http(), forms.grpc(model).bodies
    path = f"/v2/models/{model}/infer"
    meters = {
        name: Meter(name, port, pid, connections)
        for name, port in ((NATIVE, http), (HTTP, http), (GRPC, grpc))
    }
    return {
        NATIVE: lambda seconds: meters[NATIVE].http("/classify", native, seconds),
        HTTP: lambda seconds: meters[HTTP].http(path, binary, seconds),
        GRPC: lambda seconds: meters[GRPC].grpc(messages, seconds),
    }


@contextmanager
def bare_loads(messages: Sequence[bytes], connections: int) -> Iterator[Loads]:
    """Start the servers of gRPC's library that answer at once. Yield their loads."""
    with ExitStack() as stack:
        meters = [
            Meter(name, *stack.enter_context(_bare(kind)), connections)
            for kind, name in BARE.items()
        ]
        yield {each.name: partial(each.grpc, messages) for each in meters}


@contextmanager
def _bare(kind: str) -> Iterator[tuple[int, int]]:
    """Start a server that answers at once. Yield its port and its process."""
    command = [sys.executable, "-m", "benchmarks.serving.oip.bare_grpc", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.terminate()


def rounds(loads: Loads, count: int, seconds: float, warm_up: float) -> Iterator[Measured]:
    """Measure all loads so many times, one after another in each round. Warm them up first."""
    for measure in loads.values():
        measure(warm_up)
    for number in range(count):
        for name in [*loads] if number % 2 == 0 else [*loads][::-1]:
            yield loads[name](seconds)
