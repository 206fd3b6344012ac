"""Build an engine for one bundle from its parts: runtime, slots, scheduler and metrics."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from offramp.bundle.manifest import Manifest
from serving.engine.background.audits import Audits
from serving.engine.background.copies import gathered
from serving.engine.engine import Engine
from serving.engine.latency import Latency, Measured
from serving.engine.overload import OverloadDetector
from serving.engine.scheduling.scheduler import Scheduler
from serving.engine.scheduling.turns import ModelTurns, Turns
from serving.engine.start.audits import build_audits
from serving.engine.start.described import described
from serving.engine.start.times import largest_batch, warm
from serving.observe.hardware.gpu import watch_gpu
from serving.observe.metrics import Metrics
from serving.observe.worker_metrics import WorkerMetrics
from serving.runtime.base import Runtime, Slots
from serving.runtime.cpu import CpuRuntime
from serving.runtime.cuda.runtime import CudaRuntime
from serving.runtime.cuda.slots import CudaSlots, Device
from serving.runtime.memory import give_back
from serving.runtime.ready_graphs import ReadyGraphs
from serving.runtime.slots import HostSlots
from serving.runtime.stage_cache import StageCache
from serving.settings import Settings


@dataclass(frozen=True, slots=True)
class Siblings:
    """Objects that the models of one process share, each as long as one of its users is loaded.

    Attributes:
        stages: Stages of the same graphs.
        ready: Graphs that another process has made for the next model. `None`: there are none.
        times: Times of stages with the same structure, by that.
        turns: Turns of the models on the cores. `None`: batches start without.
    """

    stages: StageCache = field(default_factory=StageCache)
    ready: ReadyGraphs | None = None
    times: MutableMapping[str, Measured] = field(default_factory=WeakValueDictionary)
    turns: Turns | None = None

    def turns_of(self, model: str, latency: Latency) -> ModelTurns | None:
        """Return the turns of a version of a model, with these times of its stages."""
        return None if self.turns is None else self.turns.of(model, latency.alone())


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
        runtime, pool = _on_host(settings, manifest, siblings)
    latency = warm(settings, runtime, pool, siblings.times, on_device=on_device)
    metrics = Metrics(described(manifest, settings.provider), shared, among=among)
    audits = build_audits(settings, manifest, metrics, shared) if settings.audit else None
    if settings.provider == "cuda" and not among:
        watch_gpu(metrics.registry, settings.device)
    engine = _engine(settings, manifest, runtime, pool, metrics, latency, audits)
    engine.stage_threads.turns = siblings.turns_of(manifest.name, latency)
    if not among:  # otherwise once for a change, when the version before is gone too
        give_back()
    return engine, metrics


def _on_host(settings: Settings, manifest: Manifest, siblings: Siblings) -> tuple[Runtime, Slots]:
    cache, ready = siblings.stages, siblings.ready
    runtime = CpuRuntime(settings.folder, manifest, settings.layout, cache, ready)
    return runtime, HostSlots(runtime.inputs, runtime.features, settings.slots)


def _on_device(settings: Settings, manifest: Manifest) -> tuple[Runtime, Slots]:
    inputs = [stage.inputs for stage in manifest.stages]
    features = [stage.features for stage in manifest.stages]
    device = Device(settings.provider, settings.device)
    pool = CudaSlots(inputs, features, settings.slots, device)
    return CudaRuntime(settings.folder, manifest, pool, largest_batch(settings)), pool


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
    overload = _overload(settings, threads)
    return Engine(runtime, pool, scheduler, metrics, manifest.flops_of, threads, overload, audits)


def _overload(settings: Settings, threads: int) -> OverloadDetector:
    """Return the detector of overload. It detects nothing unless requests can be degraded."""
    if settings.overload != "degrade":
        return OverloadDetector(None)
    return OverloadDetector(settings.degrade_above_ms / 1e3 * threads)
