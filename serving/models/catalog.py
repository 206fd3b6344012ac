"""The catalog: the versions that every process of a server is to have loaded.

A change makes a new catalog. Each process loads what it has not loaded yet, and then serves all of
the new catalog at once. Only one change is under way at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace


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
class Canary:
    """A version that answers a share of the calls that name no version.

    Attributes:
        version: The version.
        share: Share of the calls, above 0 and below 1.
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
        canaries: The canary of each model that has one.
        loads: The loads of each model.
    """

    number: int = 0
    models: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    failures: Mapping[tuple[str, str], str] = field(default_factory=dict)
    canaries: Mapping[str, Canary] = field(default_factory=dict)
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
        """Return the catalog in which this version answers for its model, without a canary.

        Args:
            name: Name of the model.
            version: Version to serve.
            digest: Sha256 of its manifest. A version that is loaded with the same one is kept.
            keep_previous: Keep the version that answered so far, for a rollback.
        """
        before = [each for each in self.models.get(name, ()) if each.version != version]
        entries = [self._entry_of(name, version, digest), *(before[:1] if keep_previous else ())]
        return self._with(name, version, entries, None)

    def trying(
        self, name: str, version: str, digest: str, share: float, *, keep_previous: bool
    ) -> Catalog:
        """Return the catalog in which this version answers a share of the calls of its model.

        Another version of the model answers, and goes on to. Arguments as of `loading`.
        """
        before = [each for each in self.models[name] if each.version != version]
        others = before if keep_previous else before[:1]
        entries = [others[0], self._entry_of(name, version, digest), *others[1:2]]
        return self._with(name, version, entries, Canary(version, share))

    def unloading(self, name: str) -> Catalog:
        """Return the catalog without a model."""
        models = {key: entries for key, entries in self.models.items() if key != name}
        failures = {key: why for key, why in self.failures.items() if key[0] != name}
        canaries = {key: each for key, each in self.canaries.items() if key != name}
        loads = {key: each for key, each in self.loads.items() if key != name}
        return Catalog(self.number + 1, models, failures, canaries, loads)

    def failing(self, name: str, version: str, reason: str) -> Catalog:
        """Return the same models, with the reason why a version could not be loaded."""
        failures = {**self.failures, (name, version): reason}
        loads = {**self.loads, name: self._counting(name, failed=True)}
        return replace(self, number=self.number + 1, failures=failures, loads=loads)

    def _counting(self, name: str, *, failed: bool) -> Loads:
        """Return the loads of a model with one more."""
        before = self.loads.get(name, Loads())
        return Loads(before.done + (not failed), before.failed + failed, failed)

    def _entry_of(self, name: str, version: str, digest: str) -> Entry:
        """Return the entry of a version. One with the same files is kept."""
        entry = self.entry(name, version)
        if entry is None or entry.digest != digest:
            return Entry(name, version, digest, self.number + 1)
        return entry

    def _with(
        self, name: str, version: str, entries: Sequence[Entry], canary: Canary | None
    ) -> Catalog:
        failures = {key: why for key, why in self.failures.items() if key != (name, version)}
        canaries = {key: each for key, each in self.canaries.items() if key != name}
        if canary is not None:
            canaries[name] = canary
        models = {**self.models, name: tuple(entries)}
        loads = {**self.loads, name: self._counting(name, failed=False)}
        return Catalog(self.number + 1, models, failures, canaries, loads)
