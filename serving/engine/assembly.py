"""Build an engine for one bundle from its parts: runtime, slots, scheduler and metrics."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from time import perf_counter, thread_time
from weakref import WeakValueDictionary

from offramp.bundle.manifest import Manifest, OperatingPoint
from offramp.bundle.promises import Promise
from serving.audit.ledger import Ledger
from serving.audit.metrics import AuditCounters, PromiseMetrics
from serving.audit.state_file import StateFile, bundle_hash
from serving.engine.background.audits import Audits
from serving.engine.background.copies import gathered
from serving.engine.background.ladder import ladders
from serving.engine.budgets.points import NUMERIC
from serving.engine.engine import Engine
from serving.engine.latency import Latency, Measured
from serving.engine.overload import OverloadDetector
from serving.engine.policy import MIN_CONFIDENCE
from serving.engine.queues.turns import Turns
from serving.engine.scheduler import Scheduler
from serving.engine.warm_up import measure, useful_batch
from serving.observe.gpu import watch_gpu
from serving.observe.metrics import Metrics, Model
from serving.observe.worker_metrics import WorkerMetrics
from serving.runtime.base import Runtime, Slots, sizes_up_to
from serving.runtime.cpu import CpuRuntime
from serving.runtime.cuda import CudaRuntime
from serving.runtime.cuda_slots import CudaSlots, Device
from serving.runtime.memory import give_back
from serving.runtime.slots import HostSlots
from serving.runtime.stage_cache import StageCache
from serving.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Siblings:
    """Objects that the models of one process share, each as long as one of its users is loaded.

    Attributes:
        stages: Stages of the same graphs.
        times: Times of stages with the same structure, by that.
        turns: Turns of the models on the cores. `None`: batches start without.
    """

    stages: StageCache = field(default_factory=StageCache)
    times: MutableMapping[str, Measured] = field(default_factory=WeakValueDictionary)
    turns: Turns | None = None


def build_engine(
    settings: Settings,
    manifest: Manifest,
    shared: WorkerMetrics | None = None,
    *,
    siblings: Siblings | None = None,
    on_device: bool = False,
) -> tuple[Engine, Metrics]:
    """Load the stages of a bundle, warm them up, and return an engine for them with its metrics.

    Args:
        settings: All settings.
        manifest: Manifest of the bundle `settings.bundle`.
        shared: The place of this worker process, if it is one of several.
        siblings: Objects shared with the other models of this process. `None`: it is the only one.
        on_device: Run as on CUDA whatever the provider is.

    Raises:
        BundleError: The bundle is damaged, or not of this server's format.
        ProviderError: The provider is not available.
        UnwritableFileError: The file for audits cannot be written.
    """
    on_device = on_device or settings.provider == "cuda"
    among = siblings is not None
    siblings = siblings or Siblings()
    if on_device:
        runtime, pool = _on_device(settings, manifest)
    else:
        runtime, pool = _on_host(settings, manifest, siblings.stages)
    latency = _warm(settings, runtime, pool, siblings.times, on_device=on_device)
    model = _described(manifest, settings.provider)
    metrics = Metrics(model, shared, among=among)
    audits = _audits(settings, manifest, model, metrics, shared) if settings.audit else None
    if settings.provider == "cuda" and not among:
        watch_gpu(metrics.registry, settings.device)
    engine = _engine(settings, manifest, runtime, pool, metrics, latency, audits)
    engine.stage_threads.turns = siblings.turns
    if not among:  # otherwise once for a change, when the version before is gone too
        give_back()
    return engine, metrics


def _largest(settings: Settings) -> int:
    """Return the size of the largest possible batch."""
    return min(settings.max_batch, settings.slots)


def _on_host(settings: Settings, manifest: Manifest, cache: StageCache) -> tuple[Runtime, Slots]:
    runtime = CpuRuntime(settings.folder, manifest, settings.layout, cache)
    return runtime, HostSlots(runtime.inputs, runtime.features, settings.slots)


def _on_device(settings: Settings, manifest: Manifest) -> tuple[Runtime, Slots]:
    inputs = [stage.inputs for stage in manifest.stages]
    features = [stage.features for stage in manifest.stages]
    device = Device(settings.provider, settings.device)
    pool = CudaSlots(inputs, features, settings.slots, device)
    return CudaRuntime(settings.folder, manifest, pool, _largest(settings)), pool


def _warm(
    settings: Settings,
    runtime: Runtime,
    pool: Slots,
    times: MutableMapping[str, Measured],
    *,
    on_device: bool,
) -> Latency:
    """Warm up what no other model has, and return the times of the stages.

    Stages with known times can run the largest batch. Memory for it is in the arena that all
    sessions share.
    """
    known = None if runtime.structure is None else times.get(runtime.structure)
    if known is not None:
        if not runtime.warm:
            runtime.warm_up(1)
        return known.latency()
    latency = _measured(settings, runtime, pool, on_device=on_device)
    if runtime.structure is not None:
        times[runtime.structure] = latency.measured
    return latency


def _measured(settings: Settings, runtime: Runtime, pool: Slots, *, on_device: bool) -> Latency:
    """Warm the stages up, and measure them."""
    runtime.warm_up(1)
    largest = _largest(settings)
    if not on_device and "max_batch" not in settings.model_fields_set:
        largest = useful_batch(runtime, pool, largest, thread_time)
        log.info("a batch has at most %d images (max_batch sets another number)", largest)
    runtime.warm_up(largest)
    clock = thread_time if settings.provider == "cpu" else perf_counter
    return measure(runtime, pool, sizes_up_to(largest), clock)


def _engine(
    settings: Settings,
    manifest: Manifest,
    runtime: Runtime,
    pool: Slots,
    metrics: Metrics,
    latency: Latency,
    audits: Audits | None,
) -> Engine:
    scheduler = Scheduler(
        latency,
        latency.measured.sizes[-1],
        settings.order,
        rebatch=settings.rebatch,
        firsts=manifest.firsts,
        gather=gathered(settings.slots),
    )
    threads = min(settings.threads, runtime.parallel_batches or settings.threads)
    degrades = settings.overload == "degrade"
    seconds = settings.degrade_above_ms / 1e3 * threads
    overload = OverloadDetector(seconds if degrades else None)
    return Engine(runtime, pool, scheduler, metrics, manifest.flops_of, threads, overload, audits)


def _audits(
    settings: Settings,
    manifest: Manifest,
    model: Model,
    metrics: Metrics,
    shared: WorkerMetrics | None,
) -> Audits:
    """Return the audits of a bundle, with the ledger that all workers share."""
    found = [*ladders(manifest, settings.on_broken)]
    promises = [ladder.promise for ladder in found]
    ledger = Ledger(promises, shared.folder / "audits" if shared else None)
    file = None
    if settings.audit_state is not None:
        graphs = [stage.sha256 for stage in manifest.stages]
        file = StateFile(settings.audit_state, bundle_hash(graphs, promises))
        file.restore(ledger)
    metrics.registry.register(PromiseMetrics(ledger))
    return Audits(
        settings.audit,
        manifest.full_stage_flops,
        ledger,
        {ladder.promise.label: ladder.thresholds for ladder in found},
        AuditCounters(metrics.counters, model.budgets, manifest.exits),
        file,
    )


def _described(manifest: Manifest, provider: str) -> Model:
    points: dict[str, OperatingPoint | Promise] = {**manifest.budgets}
    if manifest.promises:
        points |= {promise.label: promise for promise in manifest.promises.offered}
    return Model(
        name=manifest.name,
        version=manifest.version,
        precision=manifest.precision,
        provider=provider,
        exits=manifest.exits,
        full_flops=manifest.full_flops,
        mean_flops={name: point.mean_flops.value for name, point in points.items()},
        expected={
            name: tuple(share.value for share in point.exit_shares)
            for name, point in points.items()
        },
        budgets_without_shares=(NUMERIC, MIN_CONFIDENCE),
        rejects=manifest.reject is not None,
    )
