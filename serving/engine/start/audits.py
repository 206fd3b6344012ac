"""The audits of a bundle, with the ledger and the file in which they are kept."""

from __future__ import annotations

from collections.abc import Sequence

from offramp.bundle.manifest import Manifest
from serving.audit.ledger import Ledger
from serving.audit.metrics import AuditCounters, PromiseMetrics
from serving.audit.standing import AuditedPromise
from serving.audit.state_file import StateFile, bundle_hash, earlier_hash
from serving.engine.background.audits import Audits
from serving.engine.background.ladder import ladders
from serving.observe.metrics import Metrics
from serving.observe.worker_metrics import WorkerMetrics
from serving.settings import Settings


def build_audits(
    settings: Settings, manifest: Manifest, metrics: Metrics, shared: WorkerMetrics | None
) -> Audits:
    """Return the audits of a bundle, with the ledger that all workers share.

    Raises:
        UnwritableFileError: The file for audits cannot be written.
    """
    found = [*ladders(manifest, settings.on_broken)]
    promises = [ladder.promise for ladder in found]
    ledger = Ledger(promises, shared.folder / "audits" if shared else None)
    file = _restored_file(settings, manifest, promises, ledger)
    metrics.registry.register(PromiseMetrics(ledger))
    return Audits(
        settings.audit,
        manifest.full_stage_flops,
        ledger,
        {ladder.promise.label: ladder.thresholds for ladder in found},
        AuditCounters(metrics.counters, metrics.budgets, manifest.exits),
        file,
    )


def _restored_file(
    settings: Settings, manifest: Manifest, promises: Sequence[AuditedPromise], ledger: Ledger
) -> StateFile | None:
    """Restore the ledger from its file. `None`: audits are in no file."""
    if settings.audit_state is None:
        return None
    graphs = [stage.sha256 for stage in manifest.stages]
    bundle = bundle_hash(graphs, manifest.promises)
    file = StateFile(settings.audit_state, bundle, earlier_hash(graphs, promises))
    file.restore(ledger)
    return file
