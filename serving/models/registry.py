"""The registry: the loaded models of a process, by name and version.

Only the event loop calls it. A change is one assignment, so a request finds the models of before
or those of after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from random import random
from typing import Generic, TypeVar

from serving.errors import UnknownModelError
from serving.models.catalog import Trial

T = TypeVar("T")
Table = Mapping[str, Mapping[str, T]]  # by name, then by version; the first version answers
DRAWN_BYTES = 8  # of a hash, as a number
SHOWN = 64  # characters of a client's text in an error
NAMED = 16  # models that an error names


class Registry(Generic[T]):
    """The loaded models.

    Args:
        table: The models.
        default: Name of the model of calls without a name. `None`: the only one.

    Attributes:
        canaries: The version of each model that answers some of its calls, if there is one.
        shadows: The version of each model that gets copies of answered requests, if there is one.
    """

    def __init__(self, table: Table[T], default: str | None = None) -> None:
        self._table = table
        self._default = default
        self.canaries: Mapping[str, Trial] = {}
        self.shadows: Mapping[str, Trial] = {}
        self._watching: list[Callable[[T], object]] = []

    def watch(self, callback: Callable[[T], object]) -> None:
        """Call back with every model that is served now, and with each that will be."""
        self._watching.append(callback)
        for each in self.every():
            callback(each)

    @property
    def table(self) -> Table[T]:
        """Return the loaded models."""
        return self._table

    def swap(
        self,
        table: Table[T],
        canaries: Mapping[str, Trial] | None = None,
        shadows: Mapping[str, Trial] | None = None,
    ) -> list[T]:
        """Serve other models from now on. Return those that are not served any more."""
        before = self._by_identity()
        self._table, self.canaries, self.shadows = table, canaries or {}, shadows or {}
        now = self._by_identity()
        for key in now.keys() - before.keys():
            for callback in self._watching:
                callback(now[key])
        return [before[key] for key in before.keys() - now.keys()]

    def every(self) -> Iterator[T]:
        """Yield all loaded versions of all models."""
        for versions in self._table.values():
            yield from versions.values()

    def _by_identity(self) -> dict[int, T]:
        return {id(each): each for each in self.every()}

    def answering(self) -> Iterator[T]:
        """Yield the version of each model that answers calls that name no version."""
        for versions in self._table.values():
            yield next(iter(versions.values()))

    def version_for(self, name: str, request_id: bytes) -> str:
        """Return the version of a canary if it answers this call. Empty: it does not.

        Args:
            name: Name of the model.
            request_id: Id of the request. Calls with the same one have the same version. Empty:
                it is drawn.
        """
        if not self.canaries or (canary := self.canaries.get(name)) is None:
            return ""
        drawn = _number_of(name, request_id) if request_id else random()  # noqa: S311 (no secret)
        return canary.version if drawn < canary.share else ""

    def get(self, name: str, version: str = "") -> T | None:
        """Return a model, or `None`. An empty version is the one that answers."""
        versions = self._table.get(name)
        if versions is None:
            return None
        return versions.get(version) if version else next(iter(versions.values()))

    def find(self, name: str, version: str = "") -> T:
        """Return a model. An empty version is the one that answers.

        Raises:
            UnknownModelError: It is not loaded.
        """
        found = self.get(name, version)
        if found is None:
            asked = f"{name[:SHOWN]!r}" + (f" version {version[:SHOWN]!r}" if version else "")
            raise UnknownModelError(f"there is no model {asked}; this server has {self._listed()}")
        return found

    @property
    def default(self) -> str:
        """Return the name of the model of calls without a name. Empty: there is no such model."""
        if self._default is not None:
            return self._default if self._default in self._table else ""
        return next(iter(self._table)) if len(self._table) == 1 else ""

    def find_default(self, version: str = "") -> T:
        """Return the model of a call without a name.

        Raises:
            UnknownModelError: There is no default, or it has no such version.
        """
        if not self.default:
            text = "name a model, as in /models/NAME/classify"
            raise UnknownModelError(f"{text}; this server has {self._listed()}")
        return self.find(self.default, version)

    def _listed(self) -> str:
        rows = [
            f"{name!r} version {' and '.join(map(repr, versions))}"
            for name, versions in self._table.items()
        ]
        more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
        return ", ".join(rows[:NAMED]) + more if rows else "no model"


def _number_of(name: str, request_id: bytes) -> float:
    """Return a number in [0, 1) that depends on the request and the model only."""
    digest = blake2b(name.encode() + b" " + request_id, digest_size=DRAWN_BYTES).digest()
    return int.from_bytes(digest, "big") / (1 << 8 * DRAWN_BYTES)
