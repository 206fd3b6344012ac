"""The messages of a supervisor and its workers about changes of the models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from serving.errors import ServingError
from serving.models.catalog import Catalog
from serving.models.planner import Wish


@dataclass(frozen=True, slots=True)
class Making:
    """To a worker: the graphs of a version are being made, which it then has to load."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Prepare:
    """To a worker: load what it needs for a catalog.

    Attributes:
        graphs: File of the graphs that were made for it. `None`: the worker makes or has them.
    """

    catalog: Catalog
    graphs: Path | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """To a worker: serve the catalog that it prepared."""

    catalog: Catalog


@dataclass(frozen=True, slots=True)
class Abort:
    """To a worker: drop what it prepared. The catalog has the same models as before."""

    catalog: Catalog


@dataclass(frozen=True, slots=True)
class Restart:
    """To the supervisor itself: replace a worker, which cannot follow the catalog."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """From a worker: it loaded what it needs for the catalog of this number, or could not."""

    number: int
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """From a worker: it serves the catalog of this number."""

    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """From a worker: a call asks for a change."""

    number: int
    wish: Wish


@dataclass(frozen=True, slots=True)
class Reply:
    """To the worker that asked: the change is made, or why not."""

    number: int
    error: ServingError | None = None


ToWorker = Making | Prepare | Commit | Abort | Reply | Restart
FromWorker = Prepared | Committed | Ask
