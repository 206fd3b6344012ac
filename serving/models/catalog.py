"""The catalog: the versions that every process of a server is to have loaded.

A change makes a new catalog. Each process loads what it has not loaded yet, and then serves all of
the new catalog at once. Only one change is under way at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
class Catalog:
    """The versions to serve.

    Attributes:
        number: Number of the change that made this catalog.
        models: The entries of each model. The first one answers, the others are asked for by
            their version only.
        failures: The reason of the last failed load, by name and version.
    """

    number: int = 0
    models: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)
    failures: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def entries(self) -> Iterator[Entry]:
        """Yield all entries."""
        for entries in self.models.values():
            yield from entries

    def entry(self, name: str, version: str) -> Entry | None:
        """Return the entry of a version. `None`: it is not to be loaded."""
        found = (each for each in self.models.get(name, ()) if each.version == version)
        return next(found, None)

    def loading(self, name: str, version: str, digest: str, *, keep_previous: bool) -> Catalog:
        """Return the catalog in which this version answers for its model.

        Args:
            name: Name of the model.
            version: Version to serve.
            digest: Sha256 of its manifest. A version that is loaded with the same one is kept.
            keep_previous: Keep the version that answered so far, for a rollback.
        """
        number = self.number + 1
        entry = self.entry(name, version)
        if entry is None or entry.digest != digest:
            entry = Entry(name, version, digest, number)
        before = [each for each in self.models.get(name, ()) if each.version != version]
        entries = (entry, *(before[:1] if keep_previous else ()))
        failures = {key: why for key, why in self.failures.items() if key != (name, version)}
        return Catalog(number, {**self.models, name: entries}, failures)

    def unloading(self, name: str) -> Catalog:
        """Return the catalog without a model."""
        models = {key: entries for key, entries in self.models.items() if key != name}
        failures = {key: why for key, why in self.failures.items() if key[0] != name}
        return Catalog(self.number + 1, models, failures)

    def failing(self, name: str, version: str, reason: str) -> Catalog:
        """Return the same models, with the reason why a version could not be loaded."""
        failures = {**self.failures, (name, version): reason}
        return replace(self, number=self.number + 1, failures=failures)
