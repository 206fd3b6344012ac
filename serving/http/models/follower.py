"""Serves the catalog in this process, on the event loop.

A change has two steps. `prepare` loads what is missing, on a thread, beside the models that serve.
`commit` serves it from the next request on, in one assignment, and closes what is not in the
catalog any more after the calls that it has. If another process could not load, `abort` drops what
was prepared.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from offramp.tasks import start_task
from serving.http.models.loading import Loader
from serving.http.models.served import ServedModel
from serving.http.models.shadows import Shadows, prepare_shadows
from serving.models.catalog import Catalog, Entry
from serving.models.registry import Registry
from serving.priorities import LOADING, yield_to_answers
from serving.runtime.memory import give_back

log = logging.getLogger(__name__)


class Follower:
    """Follows the catalog.

    Args:
        loader: Loads versions.
        default: Name of the model of calls without a name. `None`: the only one.

    Attributes:
        models: The models that are loaded.
        catalog: The catalog that is served.
        preparing: The versions that are being loaded.
    """

    def __init__(self, loader: Loader, default: str | None = None) -> None:
        self.models: Registry[ServedModel] = Registry({}, default)
        self.catalog = Catalog()
        self.preparing: frozenset[tuple[str, str]] = frozenset()
        self._load = loader.load
        self._loaded: dict[Entry, ServedModel] = {}
        self._prepared: dict[Entry, ServedModel] = {}
        self._shadows = Shadows()
        self._thread = ThreadPoolExecutor(1, "models", yield_to_answers, (LOADING,))
        self._retiring: set[asyncio.Task[None]] = set()

    def start(self, catalog: Catalog) -> None:
        """Load a catalog and serve it, before the event loop runs.

        Raises:
            OfframpError, OSError: A version cannot be loaded.
        """
        self._prepared = {entry: self._load(entry) for entry in catalog.entries()}
        prepare_shadows(catalog, self._prepared)
        self._serve(catalog)
        give_back()

    async def prepare(self, catalog: Catalog, graphs: Path | None = None) -> None:
        """Load the versions of a catalog that are not loaded yet.

        Args:
            catalog: The catalog.
            graphs: File of the graphs that another process of this server has made for them.

        Raises:
            OfframpError, OSError: A version cannot be loaded. Nothing is prepared then.
        """
        missing = [entry for entry in catalog.entries() if entry not in self._loaded]
        self.preparing = frozenset((entry.name, entry.version) for entry in missing)
        try:
            for entry in missing:
                self._prepared[entry] = await self._load_on_thread(entry, graphs)
            prepare_shadows(catalog, {**self._loaded, **self._prepared})
        except BaseException:
            self._drop_prepared()
            raise
        finally:
            self.preparing = frozenset()

    async def _load_on_thread(self, entry: Entry, graphs: Path | None) -> ServedModel:
        log.info("loading %s version %s", entry.name, entry.version)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._load, entry, graphs)

    def commit(self, catalog: Catalog) -> None:
        """Serve a prepared catalog from the next request on."""
        loads = bool(self._prepared)
        dropped = self._serve(catalog)
        if loads and not dropped:  # otherwise when they are gone
            self._give_back()
        for model in dropped:
            start_task(self._retire(model), self._retiring)

    def abort(self, catalog: Catalog) -> None:
        """Drop what was prepared, and note a catalog with the same models and the reason."""
        self._drop_prepared()
        self.preparing = frozenset()
        self.catalog = catalog

    async def close(self) -> None:
        """Load no more, and stop to wait for models that retire."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)

    def _serve(self, catalog: Catalog) -> list[ServedModel]:
        """Serve a catalog in one assignment. Return the models that are not in it."""
        there = {**self._loaded, **self._prepared}
        self._prepared = {}
        self._loaded = {entry: there[entry] for entry in catalog.entries()}
        dropped = self.models.swap(self._table(catalog), catalog.canaries, catalog.shadows)
        self._shadows.follow(self.models)
        self.catalog = catalog
        _name_versions(self.models.table)
        return dropped

    def _table(self, catalog: Catalog) -> dict[str, dict[str, ServedModel]]:
        """Return the loaded models of a catalog, by name and version."""
        return {
            name: {entry.version: self._loaded[entry] for entry in entries}
            for name, entries in catalog.models.items()
        }

    async def _retire(self, model: ServedModel) -> None:
        await model.retire()
        log.info("%s version %s is unloaded", model.name, model.version)
        del model
        free = partial(give_back, arena=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, free)

    def _drop_prepared(self) -> None:
        if self._prepared:
            for model in self._prepared.values():
                model.close()
            self._prepared = {}
            self._give_back()

    def _give_back(self) -> None:
        with suppress(RuntimeError):  # the thread is closed, because the process ends
            self._thread.submit(give_back, arena=True)


def _name_versions(table: Mapping[str, Mapping[str, ServedModel]]) -> None:
    """Name all loaded versions of a model in the metadata of each."""
    for versions in table.values():
        for model in versions.values():
            model.open_inference.descriptions.model["versions"] = [*versions]
