"""Check that killed replicas of Ray Serve cause no failed request. `deploy.check.ray` starts it.

Eight clients send 3,000 real images. After each quarter but the last, a replica is killed with
SIGKILL. Every response must have status 200. Then the application is run again with a second
version in its folder of models, and the new replicas must answer by it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import ray
from ray import serve

from deploy.check.ray import IN_NAMESPACE
from deploy.check.samples import BUNDLE, images
from deploy.ray.app import Arguments, build
from deploy.ray.processes import titled

CLIENTS, REQUESTS, KILLED, REPLICAS = 8, 3000, 3, 2
ASKED = 20  # for the version, of all replicas
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


def serve_newest(models: Path, version: str) -> None:
    """Copy the bundle into a folder of models as a new version, and run the application."""
    shutil.copytree(BUNDLE, models / BUNDLE.name / version)
    served = Arguments(models=str(models), min_replicas=REPLICAS, max_replicas=REPLICAS)
    serve.run(build(served))


def versions(url: str, image: bytes) -> set[str]:
    """Return the versions that answer."""
    answers = [httpx.post(f"{url}/classify", content=image, timeout=60) for _ in range(ASKED)]
    return {answer.json()["model"]["version"] for answer in answers}


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
    start_ray()
    with tempfile.TemporaryDirectory() as folder:
        passed = check(Path(folder), "http://127.0.0.1:8000", images())
    serve.shutdown()
    ray.shutdown()
    return 0 if passed else 1


def start_ray() -> None:
    """Start a cluster of one node, and Ray Serve on port 8000."""
    ray.init(
        num_cpus=REPLICAS,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": 8000})


def check(models: Path, url: str, encoded: Sequence[bytes]) -> bool:
    """Kill replicas under load, then serve a second version. Return whether all is well."""
    serve_newest(models, "1")
    wait_for_replicas()
    started = time.monotonic()
    outcomes = load(url, encoded)
    seconds = time.monotonic() - started
    wait_for_replicas()
    print(f"{CLIENTS} clients, {outcomes.total()} requests in {seconds:.0f} s: {dict(outcomes)}")
    serve_newest(models, "2")
    answering = versions(url, encoded[0])
    print(f"versions that answer after a second one: {', '.join(sorted(answering))}")
    return outcomes == {"200": REQUESTS} and answering == {"2"}


if __name__ == "__main__":
    sys.exit(main())
