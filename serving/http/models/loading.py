"""Load a version of a model: read it, check it, warm it up, and run it once.

Any thread can load. The models that serve are not touched.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from offramp.bundle.manifest import Manifest, read_manifest
from serving.engine.budgets.milliseconds import Milliseconds
from serving.engine.engine import Engine
from serving.engine.scheduling.turns import Turns
from serving.engine.start.assembly import Siblings, build_engine
from serving.engine.start.warm_up import probe
from serving.http.bodies.body import BodyReader
from serving.http.context import ServerContext
from serving.http.models.served import ServedModel
from serving.http.tracing.trace import Tracing
from serving.images.costly_wait import Rest
from serving.images.decoder import Decoder
from serving.models.catalog import Entry
from serving.models.folder import ModelFolder
from serving.observe.hardware.energy import watch_energy
from serving.observe.metrics import Metrics
from serving.observe.worker_metrics import WorkerMetrics
from serving.runtime.memory import trim
from serving.runtime.ready_graphs import read_graphs
from serving.settings import Settings

log = logging.getLogger(__name__)


class Loader:
    """Loads versions from a folder of models.

    Args:
        settings: Settings of the server.
        folder: The folder.
        shared: The place of this worker process, if it is one of several.
        tracing: Traces of requests. `None`: they are off.
        on_device: Run as on CUDA whatever the provider is.
    """

    def __init__(
        self,
        settings: Settings,
        folder: ModelFolder,
        shared: WorkerMetrics | None = None,
        *,
        tracing: Tracing | None = None,
        on_device: bool = False,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._shared = shared
        self._tracing = tracing
        self._on_device = on_device
        turns = Turns(settings.threads) if settings.provider == "cpu" else None
        self._siblings = Siblings(turns=turns)

    def load(self, entry: Entry, graphs: Path | None = None) -> ServedModel:
        """Load a version, and run it once. It is served by the name and version of its folders.

        Args:
            entry: The version.
            graphs: File of its graphs, if another process of this server has made them.

        Raises:
            BundleError: It is damaged, or changed since the change was planned.
            StageError: An answer to an image of noise is not finite.
            ServingError, OSError: It cannot be loaded here.
        """
        folder = self._folder.unchanged(entry)
        served_as = {"name": entry.name, "version": entry.version}
        model = build_model(
            _settings_of(self._settings, folder, entry),
            read_manifest(folder).model_copy(update=served_as),
            self._place_of(entry),
            siblings=self._siblings_with(graphs),
            tracing=self._tracing,
            on_device=self._on_device,
        )
        _run_once(model)
        return model

    def _siblings_with(self, graphs: Path | None) -> Siblings:
        """Return the objects that models share, with graphs that were made for the next one."""
        if graphs is None:
            return self._siblings
        try:
            return replace(self._siblings, ready=read_graphs(graphs))
        except OSError as error:
            log.warning("this worker makes its graphs itself: %s", error)
            return self._siblings

    def _place_of(self, entry: Entry) -> WorkerMetrics | None:
        """Return the place of a version's metrics, which all workers share."""
        if self._shared is None:
            return None
        folder = self._shared.folder / f"{entry.name}@{entry.version}-{entry.number}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return WorkerMetrics(folder, self._shared.worker)


def _run_once(model: ServedModel) -> None:
    """Run a model on an image of noise, and close it if that fails."""
    try:
        engine = model.context.engine
        probe(engine.stage_threads.runtime, engine.pool)
    except BaseException:
        model.close()
        raise


def _settings_of(settings: Settings, folder: Path, entry: Entry) -> Settings:
    """Return the settings of one version: its folder, and a file of its own for audits."""
    state = settings.audit_state
    if state is not None:
        state = state.with_name(f"{state.name}.{entry.name}@{entry.version}")
    return settings.model_copy(update={"bundle": folder, "audit_state": state})


def build_model(
    settings: Settings,
    manifest: Manifest,
    shared: WorkerMetrics | None = None,
    *,
    siblings: Siblings | None = None,
    tracing: Tracing | None = None,
    on_device: bool = False,
) -> ServedModel:
    """Load the bundle `settings.bundle`, warm it up, and return it with its endpoints.

    Args:
        settings: All settings. All bounds are those of this model.
        manifest: The manifest of the bundle.
        shared: The place of this worker process, if it is one of several.
        siblings: Objects shared with the other models of this process. Its metrics have its name
            and version then. `None`: it is the only model.
        tracing: Traces of requests. `None`: they are off.
        on_device: Run as on CUDA whatever the provider is: features stay where it computes, and
            each batch size has its own sessions.

    Raises:
        BundleError: The bundle is damaged, or not of this server's format.
        ProviderError: The provider is not available.
    """
    engine, metrics = build_engine(
        settings, manifest, shared, siblings=siblings, on_device=on_device
    )
    if siblings:
        metrics.watch_ready(lambda: engine.ready)
    else:
        watch_energy(metrics.registry, settings.cuda_device, shared.folder if shared else None)
    context = _context(settings, manifest, engine, metrics, tracing)
    return ServedModel(context, shared.folder if shared and siblings else None)


def _context(
    settings: Settings,
    manifest: Manifest,
    engine: Engine,
    metrics: Metrics,
    tracing: Tracing | None,
) -> ServerContext:
    """Return the objects that the endpoints of a model share."""
    body_reader = BodyReader(
        settings.max_body_bytes, settings.max_held_bytes, settings.body_seconds
    )
    return ServerContext(
        manifest=manifest,
        milliseconds=Milliseconds(manifest, engine.latency),
        engine=engine,
        body_reader=body_reader,
        decoder=_decoder(settings, manifest, engine, body_reader),
        metrics=metrics,
        max_images=settings.max_images,
        api_key=settings.client_key,
        tracing=tracing,
    )


def _decoder(
    settings: Settings, manifest: Manifest, engine: Engine, body_reader: BodyReader
) -> Decoder:
    return Decoder(
        manifest.input,
        settings.max_pixels,
        settings.threads,
        body_reader.keep,
        Rest(engine.overloaded, engine.ended),
        trim,
    )
