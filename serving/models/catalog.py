"""The catalog: the versions that every process of a server is to have loaded.

A change makes a new catalog. Each process loads what it has not loaded yet, and then serves all of
the new catalog at once. Only one change is under way at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Entry:
    """A version that is to be loaded.

    Attributes:
        name: Name of the model.
        version: Its version.
        digest: Sha256 of its manifest. Files that changed since are refused.
        number: Number of the change that loaded it. The same files loaded again have another.
    """

    name: str
    version: str
    digest: str
    number: int


@dataclass(frozen=True, slots=True)
class Trial:
    """A version that is tried on a share of the requests.

    Attributes:
        version: The version.
        share: The share, above 0. Of a canary, of the calls that name no version, below 1. Of a
            shadow, of the requests to the version that answers, up to 1.
    """

    version: str
    share: float


@dataclass(frozen=True, slots=True)
class Loads:
    """Loads of the versions of a model, since the model was loaded first.

    Attributes:
        done: Number of those that succeeded.
        failed: Number of those that failed.
        last_failed: The last one failed.
    """

    done: int = 0
    failed: int = 0
    last_failed: bool = False


@dataclass(frozen=True, slots=True)
class Catalog:
    """The versions to serve.

    Attributes:
        number: Number of the change that made this catalog.
        models: The entries of each model. The first one answers, the others are asked for by
            their version only.
        failures: The reason of the last failed load, by name and version.
        canaries: The version of each model that answers some of its calls, if there is one.
        shadows: The version of each model that gets copies of answered requests, if there is one.
        loads: The loads of each model.
    """

    number: int = 0
    models: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    failures: Mapping[tuple[str, str], str] = field(default_factory=dict)
    canaries: Mapping[str, Trial] = field(default_factory=dict)
    shadows: Mapping[str, Trial] = field(default_factory=dict)
    loads: Mapping[str, Loads] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries."""
        for entries in self.models.values():
            yield from entries

    def entry(self, name: str, version: str) -> Entry | None:
        """Return the entry of a version. `None`: it is not to be loaded."""
        found = (each for each in self.models.get(name, ()) if each.version == version)
        return next(found, None)

    def loading(self, name: str, version: str, digest: str, *, keep_previous: bool) -> Catalog:
        """Return the catalog in which this version answers for its model, without a trial.

        Args:
            name: Name of the model.
            version: Version to serve.
            digest: Sha256 of its manifest. A version that is loaded with the same one is kept.
            keep_previous: Keep the version that answered so far, for a rollback.
        """
        before = [each for each in self.models.get(name, ()) if each.version != version]
        entries = [self._entry_of(name, version, digest), *(before[:1] if keep_previous else ())]
        return self._with(name, version, entries)

    def trying(
        self, name: str, digest: str, trial: Trial, *, keep_previous: bool, shadow: bool = False
    ) -> Catalog:
        """Return the catalog in which a version is tried. Another version of the model answers.

        Args:
            name: Name of the model.
            digest: Sha256 of the manifest of the version that is tried.
            trial: The version and its share.
            keep_previous: Keep a third version, for a rollback: rather the one that answered before
                than one that was tried until now.
            shadow: It is a shadow. If it was none before, it is loaded anew and counts from 0.
        """
        version = trial.version
        answering, *rest = [each for each in self.models[name] if each.version != version]
        previous = sorted(rest, key=self._is_tried)[:keep_previous]
        if shadow:
            entry = self._shadow_entry_of(name, version, digest)
            return self._with(name, version, [answering, entry, *previous], shadow=trial)
        entry = self._entry_of(name, version, digest)
        return self._with(name, version, [answering, entry, *previous], canary=trial)

    def unloading(self, name: str) -> Catalog:
        """Return the catalog without a model."""
        return Catalog(
            self.number + 1,
            _without(self.models, name),
            {key: why for key, why in self.failures.items() if key[0] != name},
            _without(self.canaries, name),
            _without(self.shadows, name),
            _without(self.loads, name),
        )

    def failing(self, name: str, version: str, reason: str) -> Catalog:
        """Return the same models, with the reason why a version could not be loaded."""
        failures = {**self.failures, (name, version): reason}
        loads = {**self.loads, name: self._counting(name, failed=True)}
        return replace(self, number=self.number + 1, failures=failures, loads=loads)

    def _counting(self, name: str, *, failed: bool) -> Loads:
        """Return the loads of a model with one more."""
        before = self.loads.get(name, Loads())
        return Loads(before.done + (not failed), before.failed + failed, failed)

    def _is_tried(self, entry: Entry) -> bool:
        """Return whether the version is a canary or a shadow, which may never have answered."""
        trials = (self.canaries.get(entry.name), self.shadows.get(entry.name))
        return entry.version in [each.version for each in trials if each is not None]

    def _entry_of(self, name: str, version: str, digest: str) -> Entry:
        """Return the entry of a version. One with the same files is kept."""
        entry = self.entry(name, version)
        if entry is None or entry.digest != digest:
            return Entry(name, version, digest, self.number + 1)
        return entry

    def _shadow_entry_of(self, name: str, version: str, digest: str) -> Entry:
        """Return the entry of a shadow. If it was no shadow before, it is loaded anew."""
        entry, before = self._entry_of(name, version, digest), self.shadows.get(name)
        if before is not None and before.version == version:
            return entry
        return replace(entry, number=self.number + 1)

    def _with(
        self,
        name: str,
        version: str,
        entries: Sequence[Entry],
        *,
        canary: Trial | None = None,
        shadow: Trial | None = None,
    ) -> Catalog:
        return Catalog(
            self.number + 1,
            {**self.models, name: tuple(entries)},
            _without(self.failures, (name, version)),
            _without(self.canaries, name) | ({name: canary} if canary else {}),
            _without(self.shadows, name) | ({name: shadow} if shadow else {}),
            {**self.loads, name: self._counting(name, failed=False)},
        )


def _without(mapping: Mapping[K, V], key: K) -> dict[K, V]:
    return {each: value for each, value in mapping.items() if each != key}
