"""The planner: turns a wish for a change into the catalog that it leads to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from offramp.bundle.errors import BundleError
from serving.errors import ModelLoadError, UnknownModelError
from serving.models.catalog import Catalog, Trial
from serving.models.folder import ModelFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """A change that was asked for.

    Attributes:
        name: Name of the model.
        version: Version to serve. Empty: the newest in the folder.
        unload: Unload the model instead.
        share: Share of the calls that the version answers, as a canary. 1: all of them.
        shadow: The version gets copies of this share of the requests instead.
    """

    name: str
    version: str = ""
    unload: bool = False
    share: float = 1.0
    shadow: bool = False

    def __str__(self) -> str:
        version = f" version {self.version}" if self.version else ""
        share = f" for {self.share:g} of the calls" if self.share < 1 else ""
        if self.shadow:
            share = f" as a shadow of {self.share:g} of the requests"
        return f"{'unload' if self.unload else 'load'} {self.name[:64]}{version}{share}"


class Planner:
    """Plans changes.

    Args:
        folder: The folder of models.
        keep_previous: Keep the version that answered before each change, for a rollback.
        shadows: Version and share of the shadow of each model that starts with one.
    """

    def __init__(
        self,
        folder: ModelFolder,
        *,
        keep_previous: bool,
        shadows: Mapping[str, tuple[str, float]] | None = None,
    ) -> None:
        self.folder = folder
        self._keep_previous = keep_previous
        self._shadows = shadows or {}

    def start(self) -> Catalog:
        """Return the catalog to start with: the newest version of each model, and the shadows.

        A shadow does not answer, so that another version of its model does.

        Raises:
            BundleError: A folder cannot be read or has no model, or a manifest cannot be read.
            UnknownModelError, ModelLoadError: A shadow, or another version of it, is not there.
        """
        names = self._names()
        self._warn()
        if not names:
            text = "has no model; one is in NAME/VERSION/manifest.json"
            raise BundleError(self.folder.path, text)
        catalog = Catalog()
        for name in names:
            if (version := self._newest_to_answer(name)) is not None:
                catalog = self.propose(catalog, Wish(name, version))
        for name, (version, share) in self._shadows.items():
            catalog = self.propose(catalog, Wish(name, version, share=share, shadow=True))
        return catalog

    def changed(self, catalog: Catalog) -> list[Wish]:
        """Return the wishes that bring a server up to its folder.

        The newest version of a model is loaded if it is not, or if its files changed. If it is
        tried, it is then tried anew. A model that has no version any more is unloaded.

        Raises:
            BundleError: The folder, or that of a model, cannot be read.
        """
        names = self._names()
        self._warn()
        wishes = [Wish(name, unload=True) for name in catalog.models if name not in names]
        for name in names:
            wishes += [
                _wish_for(catalog, name, version)
                for version in self.folder.versions(name)[:1]
                if not self._is_served(catalog, name, version)
            ]
        return wishes

    def _warn(self) -> None:
        """Log each bundle that is not served because of its place."""
        with suppress(OSError):
            for path, reason in self.folder.not_served():
                log.warning("%s is not served: %s", path, reason)

    def _names(self) -> list[str]:
        """Return the names of the models in the folder."""
        try:
            return self.folder.names()
        except OSError as error:
            path = Path(error.filename or self.folder.path)
            raise BundleError(path, f"cannot be read ({error.strerror})") from error

    def _newest_to_answer(self, name: str) -> str | None:
        """Return the newest version of a model that is not its shadow, if there is one."""
        shadow, _ = self._shadows.get(name, ("", 0))
        return next((each for each in self.folder.versions(name) if each != shadow), None)

    def _is_served(self, catalog: Catalog, name: str, version: str) -> bool:
        entry = catalog.entry(name, version)
        try:
            return entry is not None and entry.digest == self.folder.digest(name, version)
        except (BundleError, UnknownModelError):
            return False  # the change says why

    def propose(self, catalog: Catalog, wish: Wish) -> Catalog:
        """Return the catalog with the change.

        Raises:
            UnknownModelError: There is no such version, or no such model is loaded.
            BundleError: Its manifest cannot be read.
            ModelLoadError: A trial needs another version of the model, which answers.
        """
        if wish.unload:
            return _unloading(catalog, wish.name)
        version = wish.version or self.folder.newest(wish.name)
        digest = self.folder.digest(wish.name, version)
        keep = self._keep_previous
        if wish.share >= 1 and not wish.shadow:
            return catalog.loading(wish.name, version, digest, keep_previous=keep)
        if wish.name not in catalog.models or catalog.models[wish.name][0].version == version:
            raise ModelLoadError(f"{wish}: no other version of {wish.name} answers")
        trial = Trial(version, wish.share)
        return catalog.trying(wish.name, digest, trial, keep_previous=keep, shadow=wish.shadow)

    def noting(self, catalog: Catalog, wish: Wish, error: Exception) -> Catalog:
        """Return the same models, with the reason why a version could not be loaded."""
        if wish.unload or isinstance(error, UnknownModelError | ModelLoadError):
            return catalog
        version = wish.version or next(iter(self.folder.versions(wish.name)), "")
        return catalog.failing(wish.name, version, str(error)) if version else catalog


def _unloading(catalog: Catalog, name: str) -> Catalog:
    if name not in catalog.models:
        raise UnknownModelError(f"no model {name[:64]!r} is loaded")
    return catalog.unloading(name)


def _wish_for(catalog: Catalog, name: str, version: str) -> Wish:
    """Return the wish to load a version, as a canary or a shadow if it is one."""
    for trials, shadow in ((catalog.canaries, False), (catalog.shadows, True)):
        trial = trials.get(name)
        if trial is not None and trial.version == version:
            return Wish(name, version, share=trial.share, shadow=shadow)
    return Wish(name, version)


def refusal(wish: Wish, error: Exception) -> UnknownModelError | ModelLoadError:
    """Return the error that tells a caller why a change was not made."""
    if isinstance(error, UnknownModelError | ModelLoadError):
        return error
    return ModelLoadError(f"{wish} failed, and what served before still does: {error}")
