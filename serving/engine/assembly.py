"""Put an engine together: runtime, slots, scheduler and metrics for one bundle."""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter, thread_time

from offramp.bundle.manifest import Manifest
from serving.engine.engine import Engine
from serving.engine.overload import OverloadDetector
from serving.engine.policy import MIN_CONFIDENCE, NUMERIC
from serving.engine.scheduler import Scheduler
from serving.engine.warm_up import measure
from serving.observe.gpu import watch_gpu
from serving.observe.metrics import Metrics, Model
from serving.observe.worker_metrics import WorkerMetrics
from serving.runtime.base import Slots, sizes_up_to
from serving.runtime.cpu import Runtime
from serving.runtime.cuda import DeviceRuntime
from serving.runtime.cuda_slots import Device, DevicePool
from serving.runtime.slots import Pool
from serving.settings import Settings

DEVICE_THREADS = 2  # one has its batch computed, the other what comes before and after


def build_engine(
    settings: Settings,
    manifest: Manifest,
    shared: WorkerMetrics | None = None,
    *,
    on_device: bool = False,
) -> tuple[Engine, Metrics]:
    """Load the stages of a bundle, warm them up, and return an engine for them with its metrics.

    Args:
        settings: all of them.
        manifest: of the bundle `settings.bundle`.
        shared: this worker's place, where it is one of several.
        on_device: run as on CUDA whatever the provider is.

    Raises:
        BundleError: the bundle is damaged, or not of this server's format.
        ProviderError: the provider is not available.
    """
    on_device = on_device or settings.provider == "cuda"
    runtime, pool = (_on_device if on_device else _on_host)(settings, manifest)
    for size in (_largest(settings), 1):
        runtime.warm_up(size)
    metrics = Metrics(_measured(manifest, settings.provider), shared)
    if settings.provider == "cuda":
        watch_gpu(metrics.registry, settings.device)
    return _engine(settings, manifest, runtime, pool, metrics), metrics


def _largest(settings: Settings) -> int:
    """The largest batch that there can be."""
    return min(settings.max_batch, settings.slots)


def _on_host(settings: Settings, manifest: Manifest) -> tuple[Runtime, Slots]:
    runtime = Runtime(settings.bundle, manifest, settings.layout)
    return runtime, Pool(runtime.inputs, runtime.features, settings.slots)


def _on_device(settings: Settings, manifest: Manifest) -> tuple[Runtime, Slots]:
    inputs = [stage.inputs for stage in manifest.stages]
    features = [stage.features for stage in manifest.stages]
    device = Device(settings.provider, settings.device)
    pool = DevicePool(inputs, features, settings.slots, device)
    return DeviceRuntime(settings.bundle, manifest, pool, _largest(settings)), pool


def _engine(
    settings: Settings, manifest: Manifest, runtime: Runtime, pool: Slots, metrics: Metrics
) -> Engine:
    clock = thread_time if settings.provider == "cpu" else perf_counter
    latency = measure(runtime, pool, sizes_up_to(_largest(settings)), clock)
    scheduler = Scheduler(latency, settings.max_batch, settings.order, rebatch=settings.rebatch)
    threads = min(settings.threads, DEVICE_THREADS) if runtime.on_device else settings.threads
    degrades = settings.overload == "degrade"
    seconds = settings.degrade_above_ms / 1e3 * threads
    overload = OverloadDetector(seconds if degrades else None)
    flops_of = lru_cache(maxsize=1024)(manifest.flops_of)
    return Engine(runtime, pool, scheduler, metrics, flops_of, threads, overload)


def _measured(manifest: Manifest, provider: str) -> Model:
    return Model(
        name=manifest.name,
        version=manifest.version,
        precision=manifest.precision,
        provider=provider,
        exits=manifest.exits,
        full_flops=manifest.full_flops,
        mean_flops={name: point.mean_flops.value for name, point in manifest.budgets.items()},
        expected={
            name: tuple(share.value for share in point.exit_shares)
            for name, point in manifest.budgets.items()
        },
        budgets_without_shares=(NUMERIC, MIN_CONFIDENCE),
    )
