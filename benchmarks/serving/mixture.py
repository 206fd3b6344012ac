"""Plan a mixture of requests: budgets, deadlines, clients that hang up, bursts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offramp.bundle.manifest import Manifest
from offramp.load.outcomes import NEVER, Floats, Plan
from serving.engine.policy import Policy, resolve

DEADLINES = (2, 5, 10, 20, 50, 200)  # milliseconds
SHARES = ("15%", "30%", "45%", "60%", "90%")
CONFIDENCES = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
HANG_UPS = 0.1  # share of the requests
BURST = 700  # requests at once, more than there are slots
BETWEEN = 2500  # requests from one burst to the next


@dataclass(frozen=True, slots=True)
class Query:
    """Query of one request. A parameter that is `None` is not sent."""

    budget: str | None = None
    min_confidence: float | None = None
    deadline_ms: float | None = None

    def path(self) -> str:
        """Return the path with the query."""
        values = {
            "budget": self.budget,
            "min_confidence": self.min_confidence,
            "deadline_ms": self.deadline_ms,
        }
        query = "&".join(f"{k}={v}" for k, v in values.items() if v is not None)
        return "/classify?" + query.replace("%", "%25")

    def policy(self, manifest: Manifest) -> Policy:
        """Return the policy that the server uses for it."""
        return resolve(manifest, self.budget, self.min_confidence, self.deadline_ms)


def all_queries(manifest: Manifest) -> list[Query]:
    """Return all queries. Those with `min_confidence`, for clients that hang up, come last."""
    cheapest = manifest.curve[0].mean_flops.value / manifest.full_flops
    shares = [share for share in SHARES if float(share.rstrip("%")) / 100 >= cheapest]
    patient = [Query(budget=name) for name in (*manifest.budgets, *shares)]
    timed = [Query(budget=name, deadline_ms=ms) for name in manifest.budgets for ms in DEADLINES]
    return [*patient, *timed, *(Query(min_confidence=least) for least in CONFIDENCES)]


def arrivals(requests: int, rate: float, rng: np.random.Generator) -> Floats:
    """Return due times: Poisson, `rate` per second, with bursts in between, [requests]."""
    gaps = rng.exponential(1 / rate, requests)
    gaps[np.arange(requests) % BETWEEN < BURST] = 0
    return np.cumsum(gaps)


def random_plan(
    queries: list[Query], requests: int, images: int, rate: float, rng: np.random.Generator
) -> Plan:
    """Plan random requests. A share of HANG_UPS hangs up."""
    patient = sum(query.min_confidence is None for query in queries)
    hangs_up = rng.random(requests) < HANG_UPS
    path = np.where(
        hangs_up,
        rng.integers(patient, len(queries), requests),
        rng.integers(0, patient, requests),
    )
    after = np.where(rng.random(requests) < 0.2, 0.0, rng.exponential(0.01, requests))
    return Plan(
        tuple(query.path() for query in queries),
        path,
        rng.integers(images, size=requests),
        arrivals(requests, rate, rng),
        np.where(hangs_up, after, NEVER),
    )
