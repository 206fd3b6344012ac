"""Measure what hostile bodies cost a server in CPU time, memory and delay of other clients.

Each attack is one request with a body of a given size: JSON or a form of the native API, JSON or
binary data of the Open Inference Protocol, or its message over gRPC. The server's CPU time and
memory are read from /proc, and a health check is sent every 20 ms beside it. Exit status 1: an
attack cost more than .5 s or 64 MB for a megabyte, or a health check took more than .2 s.

    python -m serving --bundle BUNDLE --port 8000 --grpc-port 8001 &
    python -m benchmarks.serving.attacks.bodies --port 8000 --grpc-port 8001 --pid $! --megabytes 1
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.attacks.inference import REQUESTS
from benchmarks.serving.attacks.native import JSON, NATIVE, Attack
from benchmarks.serving.attacks.target import HOST, PATIENCE, Target, model_of
from benchmarks.serving.servers.processes import usage

MEGABYTE = 1 << 20
SECONDS, MEGABYTES, DELAY = 0.5, 64.0, 0.2  # bounds: CPU and memory of a megabyte, health check

INFERENCE = {name: Attack(JSON, request.body, request) for name, request in REQUESTS.items()}
ATTACKS: Mapping[str, Attack] = {**NATIVE, **INFERENCE}


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an attack: CPU seconds, memory growth in MB, longest health check in seconds."""

    status: int | str
    bytes_sent: int
    cpu: float
    memory: float
    health: float

    @property
    def bounded(self) -> bool:
        """Return whether all bounds hold, for the bytes that were sent."""
        megabytes = max(1.0, self.bytes_sent / MEGABYTE)
        within = self.cpu <= SECONDS * megabytes and self.memory <= MEGABYTES * megabytes
        return within and self.health <= DELAY


def measure(target: Target, attack: Attack, size: int) -> Cost:
    """Send an attack and return its cost."""
    port, pid = target.port, target.pid
    body, ended = target.body(attack, size), threading.Event()
    status: list[int | str] = []
    delays: list[float] = []

    def send() -> None:
        status.append(target.send(attack, body))
        ended.set()

    cpu, memory = usage(pid).cpu, _memory(pid)
    peak = memory
    threads = [
        threading.Thread(target=send),
        threading.Thread(target=_check_health, args=(port, ended, delays)),
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, _memory(pid))
        time.sleep(0.002)
    return Cost(status[0], len(body), usage(pid).cpu - cpu, peak - memory, max(delays))


def _check_health(port: int, ended: threading.Event, delays: list[float]) -> None:
    with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
        while True:
            last = ended.is_set()
            start = time.perf_counter()
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            if not connection.recv(1 << 16):
                raise ConnectionError("the server closed the connection of the health check")
            delays.append(time.perf_counter() - start)
            if last:
                return
            time.sleep(0.02)


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--port", type=int, required=True, help="of the server, on 127.0.0.1")
    parser.add_argument("--grpc-port", type=int, help="of its gRPC; without it HTTP alone")
    parser.add_argument("--pid", type=int, required=True, help="process of the server")
    parser.add_argument("--megabytes", type=float, default=1.0, help="size of each body")
    return parser


def main() -> int:
    """Run all attacks and print a table. Return 1 if a bound does not hold."""
    options = build_parser().parse_args()
    target = Target(options.port, options.pid, model_of(options.port), options.grpc_port)
    attacks = {name: attack for name, attack in ATTACKS.items() if target.takes(attack)}
    size, failed = int(options.megabytes * MEGABYTE), 0
    print("| attack | bytes sent | status | CPU, s | memory, MB | health check, s |")
    print("|---|---|---|---|---|---|")
    for name, attack in attacks.items():
        cost = measure(target, attack, size)
        failed += not cost.bounded
        print(
            f"| {name} | {cost.bytes_sent:,} | {cost.status} | {cost.cpu:.2f} | {cost.memory:.0f} "
            f"| {cost.health:.3f} |{'' if cost.bounded else ' over a bound'}",
            flush=True,
        )
    print(f"{len(attacks) - failed} of {len(attacks)} attacks are bounded")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
