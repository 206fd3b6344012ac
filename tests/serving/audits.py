"""Audits for an engine of a test, with the ledger that they count in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from offramp.bundle.manifest import Manifest
from serving.audit.ledger import Ledger
from serving.audit.metrics import AuditCounters, PromiseMetrics, Unknown
from serving.audit.state_file import StateFile
from serving.engine.background.audits import Audits
from serving.engine.background.ladder import ladders
from serving.observe.metrics import Metrics
from serving.settings import OnBroken
from tests.serving.engines import BUDGETS, WatchedEngine

STAGE_FLOPS = (90, 140, 160, 270)


class Counted:
    """The metrics of audits of an engine."""

    def __init__(self, engine: WatchedEngine) -> None:
        self._registry = engine.metrics.registry

    def audits(self, budget: str) -> dict[tuple[int, bool], float]:
        """Return the number of audits by exit and agreement, where there are any."""
        found = {
            (number, agrees): self._value(
                "audit_total", budget=budget, exit=str(number), agrees=str(agrees).lower()
            )
            for number in range(1, 5)
            for agrees in (False, True)
        }
        return {key: count for key, count in found.items() if count}

    def dropped(self, budget: str, reason: Unknown) -> float:
        return self._value("audit_dropped_total", budget=budget, reason=reason)

    def flops(self, budget: str) -> float:
        return self._value("audit_flops_total", budget=budget)

    def _value(self, name: str, **labels: str) -> float:
        value = self._registry.get_sample_value(f"offramp_{name}", labels)
        assert value is not None
        return value


def auditing(
    manifest: Manifest,
    ledger: Ledger | None = None,
    on_broken: OnBroken = "keep",
    file: Path | None = None,
) -> Callable[[Metrics], Audits]:
    """Return what makes the audits of an engine: of every answer."""
    found = [*ladders(manifest, on_broken)]
    ledger = ledger or Ledger([ladder.promise for ladder in found])

    def audits(metrics: Metrics) -> Audits:
        assert manifest.promises is not None
        labels = (*BUDGETS, *(promise.label for promise in manifest.promises.offered))
        metrics.registry.register(PromiseMetrics(ledger))
        return Audits(
            1.0,
            STAGE_FLOPS,
            ledger,
            {ladder.promise.label: ladder.thresholds for ladder in found},
            AuditCounters(metrics.counters, labels, manifest.exits),
            StateFile(file, "this bundle") if file else None,
        )

    return audits
