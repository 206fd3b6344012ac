"""The dashboard without containers: a real server, real traffic, a real Prometheus.

    python -m deploy.check.loopback

500 images at three budgets and others beside them, errors and refusals among them. Every
expression of the dashboard must answer, and PromQL must count what the client counted.
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
from deploy.check.dashboard import unanswered
from deploy.check.prometheus import Prometheus, scraping
from deploy.check.samples import BUNDLE, images
from deploy.check.static import run
from deploy.check.traffic import Call, Count, send

BUDGETS = ["low", "medium", "full"]
SCRAPE = 5.0


def good(encoded: Sequence[bytes]) -> Iterator[Call]:
    """Every image at every budget."""
    for image, budget in itertools.product(encoded, BUDGETS):
        yield Call(image, {"budget": budget})


def bad(image: bytes) -> Iterator[Call]:
    """What the server refuses or cuts short."""
    for _ in range(10):
        yield Call(b"no image", {"budget": "low"})
        yield Call(image, {"budget": "cheap"})
        yield Call(image, {"budget": "full", "deadline_ms": "1"})


def recorded(prometheus: Prometheus) -> dict[tuple[str, str], float]:
    """Answers by budget and exit, as PromQL counts them."""
    found = prometheus.now("sum by (budget, exit) (offramp_exits_total) > 0")
    return {(dict(key)["budget"], dict(key)["exit"]): value for key, value in found.items()}


def differences(seen: Mapping[tuple[str, str], float], count: Count) -> list[str]:
    """Where PromQL and the client disagree on exits, by budget and exit."""
    return [
        f"{key}: PromQL {seen.get(key, 0):.0f}, client {count.exits[key]}"
        for key in sorted(seen.keys() | count.exits.keys())
        if seen.get(key, 0) != count.exits[key]
    ]


def check(url: str, prometheus: Prometheus, encoded: Sequence[bytes], rate: float) -> bool:
    """Send, wait for two scrapes, compare; print what was found.

    Raises:
        subprocess.CalledProcessError: promtool objects to a metric.
    """
    run("promtool", "check", "metrics", text=httpx.get(f"{url}/metrics").text)
    start, count = time.time(), Count()
    send(url, itertools.chain(good(encoded), bad(encoded[0])), rate, count)
    time.sleep(3 * SCRAPE)
    asked, empty = unanswered(prometheus, BUDGETS, start, time.time())
    wrong = differences(recorded(prometheus), count)
    print(f"{sum(count.exits.values())} answers; calls by status {dict(count.statuses)}")
    print(f"{asked - len(empty)} of {asked} dashboard expressions answer with numbers")
    for line in empty:
        print(f"no numbers from {line}")
    print(f"exits in PromQL {'DIFFER: ' + '; '.join(wrong) if wrong else 'equal the client count'}")
    return not empty and not wrong


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Does every panel of the dashboard answer?")
    parser.add_argument("--rate", type=float, default=50, help="calls in a second")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(BUNDLE) as url,
        scraping(url, Path(folder)) as prometheus,
    ):
        return 0 if check(url, prometheus, images(), arguments.rate) else 1


if __name__ == "__main__":
    sys.exit(main())
