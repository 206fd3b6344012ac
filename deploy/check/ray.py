"""Ray Serve under load, three replicas killed on the way: no client may see it.

    python -m deploy.check.ray        (as root: it runs in a network namespace with loopback only)

Eight clients send 3,000 real images; a replica is killed with SIGKILL after each quarter. Every
call must be answered with 200.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import ray
from ray import serve

from deploy.check.samples import BUNDLE, images
from deploy.ray.app import Arguments, build

CLIENTS, REQUESTS, KILLED, REPLICAS = 8, 3000, 3, 2
TITLE = b"ray::ServeReplica:default:Replica"
ALONE = "OFFRAMP_ALONE"


def replicas() -> list[int]:
    """The processes of the replicas that are alive."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_bytes().startswith(TITLE):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return sorted(found)


def until_all_serve(seconds: float = 180) -> None:
    """Wait until there are as many replicas as there should be."""
    end = time.monotonic() + seconds
    while len(replicas()) < REPLICAS:
        assert time.monotonic() < end, "a replica was not replaced"
        time.sleep(0.5)


def load(url: str, encoded: Sequence[bytes]) -> Counter[str]:
    """What the clients saw: statuses, or the kinds of errors."""
    numbers, lock, seen = iter(range(REQUESTS)), threading.Lock(), Counter[str]()

    def client(_: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while (number := _next(numbers, lock)) is not None:
                try:
                    image = encoded[number % len(encoded)]
                    outcome = str(http.post("/classify", content=image).status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                with lock:
                    seen[outcome] += 1
                    if seen.total() in KILL_AT:
                        _kill_one()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    return seen


KILL_AT = {REQUESTS * k // (KILLED + 1) for k in range(1, KILLED + 1)}


def _next(numbers: Iterator[int], lock: threading.Lock) -> int | None:
    with lock:
        return next(numbers, None)


def _kill_one() -> None:
    victim = replicas()[0]
    print(f"killing replica {victim}", flush=True)
    os.kill(victim, signal.SIGKILL)


def inside() -> int:
    """The check itself, with nothing but loopback around."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    ray.init(
        num_cpus=REPLICAS,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": 8000})
    serve.run(build(Arguments(bundle=str(BUNDLE), min_replicas=REPLICAS, max_replicas=REPLICAS)))
    until_all_serve()
    started = time.monotonic()
    seen = load("http://127.0.0.1:8000", images())
    seconds = time.monotonic() - started
    until_all_serve()
    serve.shutdown()
    ray.shutdown()
    print(f"{CLIENTS} clients, {seen.total()} calls in {seconds:.0f} s: {dict(seen)}")
    return 0 if seen == {"200": REQUESTS} else 1


def main() -> int:
    """Entry point."""
    if os.environ.get(ALONE):
        return inside()
    environment = {**os.environ, ALONE: "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = ["unshare", "--net", sys.executable, "-m", "deploy.check.ray"]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
