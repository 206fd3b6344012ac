"""Run each attack against a fresh server, and print its cost as a table.

    python -m benchmarks.serving.attacks --bundle deploy/bundles/cifar10-msdnet

`health` is the longest time of `GET /health/live` on new connections while the attack runs. The
memory is the resident memory of the server. `--checkout FOLDER` starts the server of another
version, to compare with.
"""

from __future__ import annotations

import argparse
import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.serving.attacks import connections  # noqa: F401 (adds attacks)
from benchmarks.serving.attacks.registry import ATTACKS, Attack
from benchmarks.serving.servers.processes import PATIENCE, free_port, usage
from offramp.load.connection import HOST
from offramp.load.outcomes import OK

MB = 1_000_000
EVERY = 0.05  # seconds between samples
SETTLE = 1.0  # seconds after an attack before its memory is read


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of an attack for the server.

    Attributes:
        sent: Bytes that the attacker sent.
        seconds: Duration of the attack.
        cpu: CPU seconds of the server.
        before: Resident memory before the attack, in bytes, and so on.
        health: Longest time of a health check in the meantime, in seconds.
    """

    sent: int
    seconds: float
    cpu: float
    before: int
    peak: int
    after: int
    health: float


class Watch:
    """Health checks and memory samples in a thread, while it is entered."""

    def __init__(self, port: int, pid: int) -> None:
        self.health, self.peak = 0.0, 0
        self._port, self._pid = port, pid
        self._end = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._check, self._sample)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _check(self) -> None:
        while not self._end.wait(EVERY):
            start = time.monotonic()
            answers(self._port)
            self.health = max(self.health, time.monotonic() - start)

    def _sample(self) -> None:
        while not self._end.wait(EVERY / 2):
            self.peak = max(self.peak, usage(self._pid).memory)


def answers(port: int) -> bool:
    """Return whether the server answers a health check."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=60)) as client:
        try:
            client.request("GET", "/health/live")
            with client.getresponse() as response:
                return response.status == OK
        except (OSError, http.client.HTTPException):
            return False


@contextmanager
def server(bundle: Path, checkout: Path) -> Iterator[tuple[int, int]]:
    """Start a server of a checkout, and yield its port and process id."""
    port = free_port()
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle.resolve()), "--port"]
    process = subprocess.Popen(
        [*command, str(port)], cwd=checkout, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(EVERY)
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


def measure(attack: Attack, bundle: Path, checkout: Path) -> Cost:
    """Run an attack against a fresh server."""
    with server(bundle, checkout) as (port, pid):
        for _ in range(100):  # fills caches
            answers(port)
        before, start = usage(pid), time.monotonic()
        with Watch(port, pid) as watch:
            sent = attack.run(port)
            seconds = time.monotonic() - start
            time.sleep(SETTLE)
        after = usage(pid)
        return Cost(
            sent,
            seconds,
            after.cpu - before.cpu,
            before.memory,
            max(watch.peak, after.memory),
            after.memory,
            watch.health,
        )


def row(attack: Attack, cost: Cost) -> str:
    """Return a row of the table."""
    megabytes = [round(each / MB) for each in (cost.before, cost.peak, cost.after)]
    cells = [
        attack.text,
        f"{cost.sent / MB:.2f}",
        f"{cost.seconds:.1f}",
        f"{cost.cpu:.2f}",
        *map(str, megabytes),
        f"{cost.health:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--checkout", type=Path, default=Path(), help="checkout of the server")
    parser.add_argument("--only", nargs="+", choices=sorted(ATTACKS), help="names of attacks")
    options = parser.parse_args()
    print(
        "| attack | MB sent | s | CPU s | MB memory before | peak | after | health s |\n"
        "|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for name in options.only or ATTACKS:
        print(
            row(ATTACKS[name], measure(ATTACKS[name], options.bundle, options.checkout)), flush=True
        )


if __name__ == "__main__":
    main()
