"""The values of a manifest that the metrics need."""

from __future__ import annotations

from offramp.bundle.manifest import Manifest, OperatingPoint
from offramp.bundle.promises import Promise
from serving.engine.budgets.points import NUMERIC
from serving.engine.policy import MIN_CONFIDENCE
from serving.observe.model import Model


def described(manifest: Manifest, provider: str) -> Model:
    """Return the values of a manifest for the metrics of a model on this provider."""
    points = _named_points(manifest)
    return Model(
        name=manifest.name,
        version=manifest.version,
        precision=manifest.precision,
        provider=provider,
        exits=manifest.exits,
        full_flops=manifest.full_flops,
        mean_flops={name: point.mean_flops.value for name, point in points.items()},
        expected={
            name: tuple(share.value for share in point.exit_shares)
            for name, point in points.items()
        },
        budgets_without_shares=(NUMERIC, MIN_CONFIDENCE),
        rejects=manifest.reject is not None,
    )


def _named_points(manifest: Manifest) -> dict[str, OperatingPoint | Promise]:
    """Return the operating points of the named budgets and the promises, by their labels."""
    promises = manifest.promises.offered if manifest.promises else ()
    return {**manifest.budgets, **{promise.label: promise for promise in promises}}
