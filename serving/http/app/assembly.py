"""Build the app of a server from its settings."""

from __future__ import annotations

from fastapi import Depends

from offramp.bundle.manifest import Manifest, read_manifest
from serving.http.app.application import Offramp
from serving.http.models.assembly import Supervised, build_models
from serving.http.models.frontend import Frontend
from serving.http.models.loading import build_model
from serving.http.pages.routes import pages
from serving.http.problems import add_handlers
from serving.http.routes import authenticate, guarded, public
from serving.http.tracing.assembly import build_tracing
from serving.models.registry import Registry
from serving.observe.worker_metrics import WorkerMetrics
from serving.settings import Settings


def create_app(
    settings: Settings,
    manifest: Manifest | None = None,
    shared: WorkerMetrics | None = None,
    supervised: Supervised | None = None,
    *,
    on_device: bool = False,
) -> Offramp:
    """Load the bundle or the models, warm them up, and return the app that serves them.

    Args:
        settings: All settings.
        manifest: The manifest of the bundle, if it was read before.
        shared: The place of this worker process, if it is one of several.
        supervised: The models of a worker, if there are several models.
        on_device: Run as on CUDA whatever the provider is: features stay where it computes, and
            each batch size has its own sessions.

    Raises:
        BundleError: A bundle is damaged, or not of this server's format.
        ProviderError: The provider is not available.
        UsageError: The admin key cannot be read.
    """
    changing = None
    if settings.models is not None:
        frontend, changing = build_models(
            settings, settings.models, shared, supervised, on_device=on_device
        )
    else:
        frontend = _frontend_of_one(settings, manifest, shared, on_device=on_device)
    app = Offramp(frontend, settings.drain_seconds, settings.root_path, changing)
    if settings.origins:
        app.allow_origins(settings.origins)
    _add_routes(app, settings)
    add_handlers(app, frontend.metrics)
    return app


def _frontend_of_one(
    settings: Settings,
    manifest: Manifest | None,
    shared: WorkerMetrics | None,
    *,
    on_device: bool,
) -> Frontend:
    """Load the bundle of a server with one model for good."""
    manifest = manifest or read_manifest(settings.folder)
    tracing = build_tracing(settings, manifest)
    model = build_model(settings, manifest, shared, tracing=tracing, on_device=on_device)
    registry = Registry({model.name: {model.version: model}})
    context = model.context
    return Frontend(registry, context.metrics, context.api_key, tracing=tracing)


def _add_routes(app: Offramp, settings: Settings) -> None:
    """Add the endpoints that FastAPI inspects, behind the API key if there is one."""
    check_key = [Depends(authenticate)] if app.served.api_key else []
    app.include_router(guarded, dependencies=check_key)
    app.include_router(public)
    app.include_router(pages(playground=settings.playground))
