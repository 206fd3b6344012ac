"""Build the models of a folder, with the calls that change them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serving.http.models.changes import Changes, OwnChanges
from serving.http.models.follower import Follower
from serving.http.models.frontend import Frontend
from serving.http.models.loading import Loader
from serving.http.models.oip import OpenInferenceModels
from serving.http.models.repository import Repository
from serving.http.models.served import ServedModel
from serving.http.models.shadows import has_requests
from serving.http.tracing.assembly import build_tracing
from serving.models.catalog import Catalog
from serving.models.folder import ModelFolder
from serving.models.metrics import CatalogMetrics
from serving.models.planner import Planner
from serving.models.registry import Registry
from serving.observe.hardware.energy import watch_energy
from serving.observe.hardware.gpu import watch_gpu
from serving.observe.server_metrics import ServerMetrics
from serving.observe.worker_metrics import WorkerMetrics
from serving.settings import Settings


@dataclass(frozen=True, slots=True)
class Supervised:
    """The models of a worker, which its supervisor decides.

    Attributes:
        catalog: The catalog to start with.
        changes: Returns what makes changes in all workers, for the models of this one.
    """

    catalog: Catalog
    changes: Callable[[Follower], Changes]


def planner_of(settings: Settings, folder: Path) -> Planner:
    """Return the planner for a folder of models."""
    return Planner(
        ModelFolder(folder), keep_previous=settings.keep_previous, shadows=settings.shadows
    )


def build_models(
    settings: Settings,
    folder: Path,
    shared: WorkerMetrics | None,
    supervised: Supervised | None,
    *,
    on_device: bool,
) -> tuple[Frontend, OpenInferenceModels]:
    """Load the newest version of each model, and return the models with their endpoints.

    Args:
        settings: All settings. Their bounds are those of each model.
        folder: The folder of models.
        shared: The place of this worker process, if it is one of several.
        supervised: What the supervisor decides, if there is one.
        on_device: Run as on CUDA whatever the provider is.

    Raises:
        BundleError, ServingError, OSError: A model cannot be loaded.
        UsageError: The admin key cannot be read.
    """
    admin_key = settings.read_admin_key()
    planner = planner_of(settings, folder)
    tracing = build_tracing(settings)
    loader = Loader(settings, planner.folder, shared, tracing=tracing, on_device=on_device)
    follower = Follower(loader, settings.default_model)
    models = follower.models
    models.watch(partial(_give_way, models))
    api_key = settings.client_key
    metrics = _metrics(settings, follower, shared)
    changes = supervised.changes(follower) if supervised else OwnChanges(planner, follower)
    repository = Repository(planner.folder, follower, changes, admin_key, api_key)
    follower.start(supervised.catalog if supervised else planner.start())
    frontend = Frontend(models, metrics, api_key, repository, tracing)
    return frontend, OpenInferenceModels(frontend, repository, settings.body_seconds)


def _metrics(settings: Settings, follower: Follower, shared: WorkerMetrics | None) -> ServerMetrics:
    """Return the metrics of the server: of all models, the catalog and the hardware."""
    models = follower.models
    metrics = ServerMetrics(lambda: [each.context.metrics for each in models.every()], shared)
    metrics.own.register(CatalogMetrics(lambda: follower.catalog))
    if settings.provider == "cuda":
        watch_gpu(metrics.own, settings.device)
    watch_energy(metrics.own, settings.cuda_device, shared.folder if shared else None)
    return metrics


def _give_way(models: Registry[ServedModel], model: ServedModel) -> None:
    """Let copies of a model wait while another one has requests."""
    model.context.engine.copies.give_way(partial(has_requests, models, model))
