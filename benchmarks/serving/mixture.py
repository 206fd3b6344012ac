"""Calls of every kind: budgets, deadlines, clients that hang up, bursts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.serving.generator.outcomes import NEVER, Floats, Plan
from offramp.bundle.manifest import Manifest
from serving.engine.policy import Policy, resolve

DEADLINES = (2, 5, 10, 20, 50, 200)  # milliseconds
SHARES = ("15%", "30%", "45%", "60%", "90%")
CONFIDENCES = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
HANG_UPS = 0.1  # share of the calls
BURST = 700  # calls at once, more than there are slots
BETWEEN = 2500  # calls from one burst to the next


@dataclass(frozen=True, slots=True)
class Ask:
    """One way to ask."""

    budget: str | None = None
    min_confidence: float | None = None
    deadline_ms: float | None = None

    def path(self) -> str:
        """As a path with its query."""
        asked = {
            "budget": self.budget,
            "min_confidence": self.min_confidence,
            "deadline_ms": self.deadline_ms,
        }
        query = "&".join(f"{k}={v}" for k, v in asked.items() if v is not None)
        return "/classify?" + query.replace("%", "%25")

    def policy(self, manifest: Manifest) -> Policy:
        """What the server makes of it."""
        return resolve(manifest, self.budget, self.min_confidence, self.deadline_ms)


def asks(manifest: Manifest) -> list[Ask]:
    """All ways; those by confidence, which are for clients that hang up, come last."""
    least = manifest.curve[0].mean_flops.value / manifest.full_flops
    shares = [share for share in SHARES if float(share.rstrip("%")) / 100 >= least]
    staying = [Ask(budget=name) for name in (*manifest.budgets, *shares)]
    timed = [Ask(budget=name, deadline_ms=ms) for name in manifest.budgets for ms in DEADLINES]
    return [*staying, *timed, *(Ask(min_confidence=sure) for sure in CONFIDENCES)]


def arrivals(calls: int, rate: float, rng: np.random.Generator) -> Floats:
    """Poisson, with bursts in between, [calls]."""
    gaps = rng.exponential(1 / rate, calls)
    gaps[np.arange(calls) % BETWEEN < BURST] = 0
    return np.cumsum(gaps)


def random_plan(
    ways: list[Ask], calls: int, images: int, rate: float, rng: np.random.Generator
) -> Plan:
    """Calls of every kind."""
    staying = sum(ask.min_confidence is None for ask in ways)
    leaves = rng.random(calls) < HANG_UPS
    path = np.where(
        leaves, rng.integers(staying, len(ways), calls), rng.integers(0, staying, calls)
    )
    after = np.where(rng.random(calls) < 0.2, 0.0, rng.exponential(0.01, calls))
    return Plan(
        tuple(ask.path() for ask in ways),
        path,
        rng.integers(images, size=calls),
        arrivals(calls, rate, rng),
        np.where(leaves, after, NEVER),
    )
