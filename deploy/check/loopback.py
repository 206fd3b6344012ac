"""Check the dashboard without containers: a real server, real traffic, a real Prometheus.

    python -m deploy.check.loopback

Sends 500 images at three budgets, some with a promise, and requests that fail or expire. One server
has one bundle. Another one has two versions, of which one is a shadow for half of the requests and
then a canary. Every expression of the dashboard must return numbers, and PromQL must give the
client's counts.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from benchmarks.client import serving
from deploy.check.dashboard import search
from deploy.check.programs import LOOPBACK, can_run
from deploy.check.prometheus import Prometheus, scraping
from deploy.check.samples import BUNDLE, images, load_canary, serving_versions
from deploy.check.static import run
from deploy.check.traffic import Call, Count, send
from offramp.bundle.promises import Level

BUDGETS = ["low", "medium", "full"]
SCRAPE = 5.0


def good(encoded: Sequence[bytes]) -> Iterator[Call]:
    """Yield every image at every budget."""
    for image, budget in itertools.product(encoded, BUDGETS):
        yield Call(image, {"budget": budget})


def promised(encoded: Sequence[bytes], promise: str) -> Iterator[Call]:
    """Yield some images with a promise that the bundle certifies."""
    for image in encoded[:100]:
        yield Call(image, {"promise": promise})


def offered_by(url: str) -> str:
    """Return the first promise that a server offers."""
    first = httpx.get(f"{url}/model").json()["promises"]["offered"][0]
    return str(Level(first["kind"], first["epsilon"]))


def bad(image: bytes) -> Iterator[Call]:
    """Yield requests that the server refuses, and some with deadlines that it can miss."""
    for _ in range(10):
        yield Call(b"no image", {"budget": "low"})
        yield Call(image, {"budget": "cheap"})
        yield Call(image, {"budget": "full", "deadline_ms": "1"})  # too short for any server
        yield Call(image, {"budget": "full", "deadline_ms": "20"})


def recorded(prometheus: Prometheus) -> dict[tuple[str, str], float]:
    """Return PromQL's counts of answers by budget and exit."""
    found = prometheus.now("sum by (budget, exit) (offramp_exits_total) > 0")
    return {(dict(key)["budget"], dict(key)["exit"]): value for key, value in found.items()}


def differences(seen: Mapping[tuple[str, str], float], count: Count) -> list[str]:
    """Describe the differences between PromQL's and the client's counts by budget and exit."""
    return [
        f"{key}: PromQL {seen.get(key, 0):.0f}, client {count.exits[key]}"
        for key in sorted(seen.keys() | count.exits.keys())
        if seen.get(key, 0) != count.exits[key]
    ]


def check(
    url: str,
    prometheus: Prometheus,
    encoded: Sequence[bytes],
    rate: float,
    *,
    models: bool = False,
) -> bool:
    """Send requests, wait for scrapes, compare and print the result. Return True if all is well.

    Raises:
        subprocess.CalledProcessError: promtool rejects a metric.
    """
    run("promtool", "check", "metrics", text=httpx.get(f"{url}/metrics").text)
    start, count = time.time(), Count()
    send_all(url, encoded, rate, count, models=models)
    time.sleep(3 * SCRAPE)
    found = search(prometheus, BUDGETS, start, time.time(), models=models)
    different = differences(recorded(prometheus), count)
    print(f"{sum(count.exits.values())} answers, requests by status {dict(count.statuses)}")
    print(f"{found.sent - len(found.empty)} of {found.sent} dashboard expressions return numbers")
    for line in found.empty:
        print(f"no numbers from {line}")
    if found.left_out:
        print(f"not checked, because this machine does not count it: {', '.join(found.left_out)}")
    result = "DIFFER: " + ", ".join(different) if different else "equal the client's counts"
    print(f"exits in PromQL {result}")
    return not found.empty and not different


def send_all(
    url: str, encoded: Sequence[bytes], rate: float, count: Count, *, models: bool
) -> None:
    """Send all requests. Half of them are before the shadow becomes a canary."""
    calls = [*good(encoded), *promised(encoded, offered_by(url)), *bad(encoded[0])]
    middle = len(calls) // 2
    send(url, calls[:middle], rate, count)
    if models:
        time.sleep(2 * SCRAPE)  # its series end with it
        load_canary(url)
    send(url, calls[middle:], rate, count)


def main() -> int:
    """Run the check and return the exit status, 1 if it failed."""
    parser = argparse.ArgumentParser(
        description="Check that every panel of the dashboard has data.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rate", type=float, default=50, help="requests per second")
    arguments = parser.parse_args()
    if not can_run("loopback", LOOPBACK):
        return 1
    audited = ("--audit", "100%")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        servers = (serving(BUNDLE, *audited), serving_versions(folder / "of", *audited))
        passed = []
        for several, server in enumerate(servers):
            with server as url, scraping(url, folder / f"data-{several}") as prometheus:
                print(("one bundle", "two versions")[several])
                found = check(url, prometheus, images(), arguments.rate, models=bool(several))
                passed.append(found)
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
