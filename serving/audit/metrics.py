"""Metrics of audits: counters of each worker, and gauges from the ledger that all workers share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Literal

from prometheus_client.core import GaugeMetricFamily

from serving.audit.ledger import STATES, Ledger
from serving.audit.sequence import ConfidenceSequence, audits_needed
from serving.audit.standing import AuditedPromise
from serving.observe.counters import Counters

Unknown = Literal["slot", "cut_short", "cancelled", "failed", "stopped"]
REASONS: tuple[Unknown, ...] = (
    "slot",  # a request needed its slot
    "cut_short",  # a deadline or overload ended the request before its exit
    "cancelled",  # the client disconnected before the answer
    "failed",  # a stage failed
    "stopped",  # the server was shutting down
)
AGREES = {True: "true", False: "false"}
CACHED_BOUNDS = 64
# Texts of the counters.
AUDITS = "Audits by the exit of the answer, and whether full depth gives its class."
NO_RESULT = "Audits that were drawn and have no result."
FLOPS = "Flops that audits ran beyond the exits of their answers."


class AuditCounters:
    """Counts audits by budget.

    Args:
        counters: Counters of this worker.
        budgets: Budget labels.
        exits: Number of exits.
    """

    def __init__(self, counters: Counters, budgets: Sequence[str], exits: int) -> None:
        audit = partial(counters.counter, "offramp_audit", AUDITS)
        dropped = partial(counters.counter, "offramp_audit_dropped", NO_RESULT)
        flops = partial(counters.counter, "offramp_audit_flops", FLOPS)
        numbers = range(1, exits + 1)
        self._audits = {
            b: [{a: audit(budget=b, exit=e, agrees=t) for a, t in AGREES.items()} for e in numbers]
            for b in budgets
        }
        self._unknown = {b: {r: dropped(budget=b, reason=r) for r in REASONS} for b in budgets}
        self._flops = {b: flops(budget=b) for b in budgets}

    def result(self, budget: str, exit_number: int, *, agrees: bool) -> None:
        """Count an audit of an answer of this exit (from 1)."""
        self._audits[budget][exit_number - 1][agrees].add()

    def drop(self, budget: str, reason: Unknown) -> None:
        """Count an audit without a result."""
        self._unknown[budget][reason].add()

    def spend(self, budget: str, flops: int) -> None:
        """Count the flops of an audit."""
        self._flops[budget].add(flops)


class PromiseMetrics:
    """A collector of the position and the sequence of each promise."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lower = lru_cache(CACHED_BOUNDS)(ConfidenceSequence.lower)
        self._upper = lru_cache(CACHED_BOUNDS)(ConfidenceSequence.upper)
        promises = ledger.promises.values()
        self._needed = {p.label: audits_needed(p.epsilon, p.alpha) for p in promises if p.supported}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics, computed at each scrape."""
        found = {label: self._ledger.sequence(label) for label in self._ledger.promises}

        def gauge(
            name: str,
            text: str,
            value: Callable[[AuditedPromise, ConfidenceSequence], float | None],
        ) -> GaugeMetricFamily:
            family = GaugeMetricFamily(f"offramp_promise_{name}", text, labels=["budget"])
            for label, promise in self._ledger.promises.items():
                if (number := value(promise, found[label])) is not None:
                    family.add_metric((label,), number)
            return family

        yield gauge("epsilon", "Largest disagreement that is certified.", lambda p, _: p.epsilon)
        yield gauge("audits", "Audits with a result.", lambda _, s: s.known)
        yield gauge(
            "audits_needed",
            "Fewest audits that can show that a promise holds.",
            lambda p, _: self._needed.get(p.label),
        )
        yield gauge("disagreement", "Share of audits that disagree.", lambda _, s: s.share)
        text = "Lower bound of the disagreement, valid at all times."
        yield gauge("disagreement_low", text, lambda p, s: self._lower(s, p.alpha))
        text = "Upper bound of the disagreement, valid at all times."
        yield gauge("disagreement_high", text, lambda p, s: self._upper(s, p.alpha))
        yield self._states()

    def _states(self) -> GaugeMetricFamily:
        text = "1 for the state of the promise, else 0."
        family = GaugeMetricFamily("offramp_promise_state", text, labels=["budget", "state"])
        for label in self._ledger.promises:
            now = self._ledger.state(label)
            for state in STATES:
                family.add_metric((label, state), float(state == now))
        return family
