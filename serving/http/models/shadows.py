"""The shadows of a process: versions that get copies of answered requests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from serving.engine.background.shadow import Shadow
from serving.engine.background.shadow_metrics import ShadowCounters
from serving.errors import ServingError
from serving.http.models.served import ServedModel
from serving.models.catalog import Catalog, Entry
from serving.models.registry import Registry
from serving.observe.counters import Counters


class _Running(NamedTuple):
    """A shadow, and the version that answers."""

    served: ServedModel
    shadowed: ServedModel
    shadow: Shadow

    def end(self) -> None:
        self.served.context.engine.stop_copying(self.shadow)
        self.shadow.close()


class Shadows:
    """Starts and ends shadows."""

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}

    def follow(self, models: Registry[ServedModel]) -> None:
        """Run the shadows of these models from the next request on, and no others."""
        before, self._running = self._running, {}
        for name, trial in models.shadows.items():
            served, shadowed = models.find(name), models.find(name, trial.version)
            running = before.get(name)
            if running is not None and running[:2] == (served, shadowed):
                running.shadow.set_share(trial.share)
                del before[name]
            else:
                running = _start(served, shadowed, trial.share)
            self._running[name] = running
        for running in before.values():
            running.end()


def _start(served: ServedModel, shadowed: ServedModel, share: float) -> _Running:
    other = shadowed.context
    shadow = Shadow(
        share,
        served.context.manifest,
        other.manifest,
        other.engine.copies,
        _declare(served, shadowed, other.metrics.counters),
        other.milliseconds,
    )
    served.context.engine.start_copying(shadow)
    return _Running(served, shadowed, shadow)


def _declare(served: ServedModel, shadowed: ServedModel, counters: Counters) -> ShadowCounters:
    exits = served.context.manifest.exits, shadowed.context.manifest.exits
    return ShadowCounters(counters, shadowed.context.metrics.budgets, exits)


def prepare_shadows(catalog: Catalog, loaded: Mapping[Entry, ServedModel]) -> None:
    """Check that each shadow of a catalog can begin without an error, when it is served.

    Raises:
        ServingError: It takes images of another size, or converts them in another way, than the
            version that answers.
        OSError: Its counters have no room.
    """
    for name, trial in catalog.shadows.items():
        answering, entry = catalog.models[name][0], catalog.entry(name, trial.version)
        assert entry is not None
        served, shadowed = loaded[answering], loaded[entry]
        if served.context.manifest.input != shadowed.context.manifest.input:
            raise ServingError(
                f"version {trial.version} of {name} has another input than version "
                f"{answering.version}, so it cannot get its images as a shadow"
            )
        counters = shadowed.context.metrics.counters
        counters.reserve(partial(_declare, served, shadowed))


def has_requests(models: Registry[ServedModel], but: ServedModel) -> bool:
    """Return whether another model than `but` has a request. Any thread can call this."""
    others = (each.context.engine for each in models.every() if each is not but)
    return any(engine.in_progress for engine in others)
