"""Check that killed replicas of Ray Serve cause no failed request. `deploy.check.ray` starts it.

Eight clients send 3,000 real images. After each quarter but the last, a replica is killed with
SIGKILL. Every response must have status 200.
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

import httpx
import ray
from ray import serve

from deploy.check.ray import IN_NAMESPACE
from deploy.check.samples import BUNDLE, images
from deploy.ray.app import Arguments, build
from deploy.ray.processes import titled

CLIENTS, REQUESTS, KILLED, REPLICAS = 8, 3000, 3, 2
TITLE = b"ray::ServeReplica:default:Replica"


def wait_for_replicas(seconds: float = 180) -> None:
    """Wait until all replicas are alive.

    Raises:
        AssertionError: A replica was not replaced in so many seconds.
    """
    end = time.monotonic() + seconds
    while len(titled(TITLE)) < REPLICAS:
        assert time.monotonic() < end, "a replica was not replaced"
        time.sleep(0.5)


def load(url: str, encoded: Sequence[bytes]) -> Counter[str]:
    """Send the requests and count the statuses, or the names of the errors."""
    numbers, lock, outcomes = iter(range(REQUESTS)), threading.Lock(), Counter[str]()

    def client(_: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as http:
            while (number := _next(numbers, lock)) is not None:
                try:
                    image = encoded[number % len(encoded)]
                    outcome = str(http.post("/classify", content=image).status_code)
                except httpx.HTTPError as error:
                    outcome = type(error).__name__
                with lock:
                    outcomes[outcome] += 1
                    if outcomes.total() in KILL_AT:
                        _kill_one()

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    return outcomes


KILL_AT = {REQUESTS * k // (KILLED + 1) for k in range(1, KILLED + 1)}


def _next(numbers: Iterator[int], lock: threading.Lock) -> int | None:
    with lock:
        return next(numbers, None)


def _kill_one() -> None:
    replica = titled(TITLE)[0]
    print(f"killing replica {replica}", flush=True)
    os.kill(replica, signal.SIGKILL)


def main() -> int:
    """Run the check in a namespace with loopback only and return the exit status.

    Raises:
        RuntimeError: This is not the namespace that `deploy.check.ray` makes.
    """
    if not os.environ.get(IN_NAMESPACE):
        raise RuntimeError("python -m deploy.check.ray starts this check, in a network namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    ray.init(
        num_cpus=REPLICAS,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": 8000})
    serve.run(build(Arguments(bundle=str(BUNDLE), min_replicas=REPLICAS, max_replicas=REPLICAS)))
    wait_for_replicas()
    started = time.monotonic()
    outcomes = load("http://127.0.0.1:8000", images())
    seconds = time.monotonic() - started
    wait_for_replicas()
    serve.shutdown()
    ray.shutdown()
    print(f"{CLIENTS} clients, {outcomes.total()} requests in {seconds:.0f} s: {dict(outcomes)}")
    return 0 if outcomes == {"200": REQUESTS} else 1


if __name__ == "__main__":
    sys.exit(main())
