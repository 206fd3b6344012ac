"""Gauges of promises, from the ledger."""

from __future__ import annotations

from serving.audit.ledger import Ledger
from serving.audit.metrics import PromiseMetrics
from serving.audit.standing import AuditedPromise

ALL = AuditedPromise("promise-95", 0.05, 0.02, ("95%",))
EACH = AuditedPromise("promise-exit-95", 0.05, 0.02, ("exit:95%",), supported=False)


def test_no_number_of_audits_is_enough_for_a_promise_that_they_cannot_support() -> None:
    families = {each.name: each for each in PromiseMetrics(Ledger([ALL, EACH])).collect()}
    budgets = {
        name: [sample.labels["budget"] for sample in families[f"offramp_promise_{name}"].samples]
        for name in ("audits", "audits_needed")
    }
    assert budgets == {"audits": [ALL.label, EACH.label], "audits_needed": [ALL.label]}
