"""Budget that counts as equal to full depth."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.servers.subject import POINTS, SHIPPED, equal_budget
from offramp.bundle.manifest import read_manifest
from serving.engine.policy import resolve


@pytest.mark.parametrize("folder", [SHIPPED, Path("deploy/bundles/cifar10-msdnet-int8")])
def test_the_equal_budget_is_the_cheapest_point_that_loses_at_most_points(folder: Path) -> None:
    manifest = read_manifest(folder)
    enough = manifest.budgets["full"].accuracy.value - POINTS
    thresholds = resolve(manifest, equal_budget(manifest)).thresholds
    (point,) = (each for each in manifest.curve if each.thresholds == thresholds)
    assert point.accuracy.value >= enough
    cheaper = [p for p in manifest.curve if p.mean_flops.value < point.mean_flops.value]
    assert cheaper
    assert all(each.accuracy.value < enough for each in cheaper)
