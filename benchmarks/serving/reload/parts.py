"""The parts of an accounting: what is asked in each, and which changes are made meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.serving.mixture import Query
from benchmarks.serving.reload.changes import load_version
from benchmarks.serving.reload.models import Versions
from benchmarks.serving.reload.tally import NAMES, Asked
from offramp.load.outcomes import OK, Plan

ABSENT = "9999"  # a version that is never there
PINS = (0.6, 0.2, 0.1, 0.1)  # shares of no version, the one that answers, the kept one, ABSENT
SHARE = 0.3  # of a canary


@dataclass(slots=True)
class Model:
    """A model of the server.

    Attributes:
        name: Its name.
        bundles: Its versions: one of an odd number is of the first bundle.
        answers: The version that answers.
        kept: The version before, which is loaded too.
        newest: The newest version that was written.
    """

    name: str
    bundles: tuple[Versions, Versions]
    answers: int = 1
    kept: int = 0
    newest: int = 0

    def write(self, *, corrupt: bool = False) -> int:
        """Write a new version, and return its number."""
        self.newest += 1
        self.bundles[(self.newest + 1) % 2].write(self.newest, corrupt=corrupt)
        return self.newest


@dataclass(slots=True)
class Changes:
    """Makes the changes, and notes those that do not end as they have to.

    Attributes:
        port: Port of the server.
        key: Its admin key.
        made: Number of changes of each kind.
        wrong: Descriptions of changes with another status.
    """

    port: int
    key: str
    made: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def load(self, model: Model) -> None:
        """Load a new version. The kept version is dropped."""
        self._make("load", model, model.write())
        model.answers, model.kept = model.newest, model.answers

    def swap(self, model: Model) -> None:
        """Serve the kept version again."""
        self._make("rollback", model, model.kept)
        model.answers, model.kept = model.kept, model.answers

    def begin_canary(self, model: Model) -> None:
        """Let the kept version answer a share of the calls."""
        self._make("canary", model, model.kept, SHARE)

    def end_canary(self, model: Model) -> None:
        """Let the version that answers answer all calls."""
        self._make("end of a canary", model, model.answers)

    def fail(self, model: Model) -> None:
        """Load a corrupt version, which has to fail."""
        self._make("corrupt", model, model.write(corrupt=True))

    def _make(self, kind: str, model: Model, version: int, share: float = 1.0) -> None:
        status = load_version(self.port, self.key, model.name, version, share)
        self.made[kind] = self.made.get(kind, 0) + 1
        if (status == OK) == (kind == "corrupt"):
            self.wrong.append(f"{kind} of {model.name} {version}: {status}")


def new_models(folder: Path, bundles: Sequence[Path]) -> list[Model]:
    """Write the first version of three models, and return them."""
    models = []
    for name in NAMES:
        first, second = (Versions(folder, bundle, name) for bundle in bundles)
        models.append(Model(name, (first, second)))
        models[-1].write()
    return models


def plan_part(
    models: Sequence[Model],
    reloaded: Model,
    queries: list[Query],
    plan: Plan,
    rng: np.random.Generator,
) -> tuple[Plan, list[Asked]]:
    """Let each request of a plan ask for a model, and some for a version.

    The kept version of the model that is reloaded is dropped in this part, so no request asks
    for it. Clients that hang up ask for no version that is not loaded.
    """
    asked = []
    for model in models:
        kept = model.answers if model is reloaded else model.kept
        for version in ("", str(model.answers), str(kept), ABSENT):
            asked += [Asked(model.name, version, query) for query in queries]
    pin = rng.choice(len(PINS), len(plan), p=PINS)
    hangs_up = np.array([query.min_confidence is not None for query in queries])[plan.path]
    pin = np.where(hangs_up & (pin == len(PINS) - 1), 0, pin)
    which = rng.integers(len(models), size=len(plan)) * len(PINS) + pin
    path = which * len(queries) + plan.path
    return replace(plan, paths=tuple(each.path() for each in asked), path=path), asked


def change_under_load(changes: Changes, models: Sequence[Model], reloaded: Model) -> None:
    """Load a new version of one model. Swap, try and fail to load those of the others."""
    other, another = (model for model in models if model is not reloaded)
    changes.swap(other)
    changes.begin_canary(another)
    changes.load(reloaded)
    changes.fail(other)
    changes.end_canary(another)
    changes.swap(other)
