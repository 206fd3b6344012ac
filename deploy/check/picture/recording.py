"""Recording of a server's metrics by Prometheus under mixed traffic."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.check.loopback import bad
from deploy.check.prometheus import scraping
from deploy.check.samples import images, load_canary, serving_versions
from deploy.check.traffic import Call, Count, send

QUERIES: tuple[tuple[dict[str, str], float], ...] = (
    ({"budget": "low"}, 0.2),
    ({"budget": "medium"}, 0.2),
    ({"budget": "full"}, 0.1),
    ({"promise": "99%"}, 0.15),
    ({"promise": "98%"}, 0.1),
    ({"promise": "95%"}, 0.05),
    ({"budget": "40%"}, 0.1),
    ({"min_confidence": "0.9"}, 0.08),
    ({"budget": "full", "deadline_ms": "6"}, 0.02),
)


def record(folder: Path, minutes: float, rate: float) -> tuple[float, float]:
    """Record a server's metrics in a folder, and return start and end of the data in Unix time."""
    with (
        serving_versions(folder / "of", "--slots", "64", "--audit", "20%") as url,
        scraping(url, folder),
    ):
        start = time.time()
        send_mixed(url, images(), minutes, rate)
        time.sleep(10)
        return start + 15, time.time() - 5


def send_mixed(url: str, encoded: Sequence[bytes], minutes: float, rate: float) -> None:
    """Send mixed traffic at a rate that rises and falls, with bursts and wrong requests.

    In the middle the shadow becomes a canary.
    """
    random = np.random.default_rng(0)
    weights = [weight for _, weight in QUERIES]
    segments, seconds = int(minutes * 6), 10
    for segment in range(segments):
        if segment == segments // 2:
            load_canary(url)
        current = rate * (1 + 0.6 * math.sin(2 * math.pi * segment / segments * 2))
        calls = [
            Call(encoded[int(random.integers(len(encoded)))], QUERIES[kind][0])
            for kind in random.choice(len(QUERIES), int(current * seconds), p=weights)
        ]
        send(url, calls, current, Count())
        if segment % 20 == 10:
            send(url, bad(encoded[0]), 100, Count())
            send(url, [Call(image, {"budget": "full"}) for image in encoded[:160]], 2000, Count())
