"""The list of loaded models, with the versions that are tried."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from offramp.bundle.values import FrozenRecord, is_none
from serving.models.catalog import Trial
from serving.models.registry import Registry


class TriedVersion(FrozenRecord):
    """A version that is tried on a share of the requests."""

    version: str
    share: float = Field(description="share of the requests, above 0 and up to 1")


class ListedModel(FrozenRecord):
    """A model that is loaded."""

    name: str
    version: str = Field(description="version that answers")
    versions: tuple[str, ...] = Field(description="all versions that are loaded")
    canary: TriedVersion | None = Field(
        None,
        description="version that answers a share of the calls. Missing: there is none",
        exclude_if=is_none,
    )
    shadow: TriedVersion | None = Field(
        None,
        description="version that gets copies of a share of the answered requests. Missing: there "
        "is none",
        exclude_if=is_none,
    )


class ModelList(FrozenRecord):
    """The models that are loaded."""

    default: str | None = Field(description="name of the model that answers /classify, if any")
    models: tuple[ListedModel, ...]


def list_models(registry: Registry[Any]) -> ModelList:
    """Return the models of a registry."""
    rows = (
        ListedModel(
            name=name,
            version=next(iter(versions)),
            versions=tuple(versions),
            canary=_tried(registry.canaries, name),
            shadow=_tried(registry.shadows, name),
        )
        for name, versions in registry.table.items()
    )
    return ModelList(default=registry.default or None, models=tuple(rows))


def _tried(trials: Mapping[str, Trial], name: str) -> TriedVersion | None:
    trial = trials.get(name)
    return None if trial is None else TriedVersion(version=trial.version, share=trial.share)
