"""Build a bundle of the papers' network with random weights, for measurements of speed.

MSDNet with 7 exits as in the recipe cifar-paper. Its batch norms have seen the images, so
features have the magnitude of a trained network's. Thresholds are quantiles of the confidences
on the images that are sent. So known shares of the images leave at each exit. Its accuracy is
chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from exporter.budgets import operating_point
from exporter.bundle import Naming, write_bundle
from exporter.network.export import export_network, make_manifest
from offramp.bundle.manifest import OperatingPoint
from training.data.datasets import open_dataset
from training.data.splits import load_test
from training.errors import DataError
from training.evaluation.evaluate import Floats, Scored, apply_thresholds
from training.evaluation.thresholds import NEVER
from training.fit.checkpoint import Checkpoint, Progress
from training.fit.initial import initial_network
from training.networks.multi_exit import MultiExitNetwork
from training.recipes import RECIPES

NAME = "random-msdnet-7"
RECIPE = "cifar-paper"
SHARES = {
    "low": (0.70, 0.20, 0.05, 0.02, 0.01, 0.01, 0.01),
    "medium": (0.50, 0.20, 0.10, 0.08, 0.05, 0.04, 0.03),
    "high": (0.20, 0.20, 0.15, 0.15, 0.10, 0.10, 0.10),
}
BATCHES, BATCH = 10, 100
FEW = 200


def quantile_thresholds(confidence: Floats, shares: Sequence[float]) -> Floats:
    """Return thresholds with which given shares of the images leave at each exit.

    Args:
        confidence: Confidence of each exit, [exits, N].
        shares: Share of all images that leaves at each exit, [exits]. They sum to 1.

    Returns:
        Thresholds, float64 [exits]. The last is 0.
    """
    exits, images = confidence.shape
    thresholds, staying = np.zeros(exits), np.ones(images, dtype=bool)
    leave = np.diff(np.rint(np.cumsum(shares) * images).astype(int), prepend=0)
    for k in range(exits - 1):
        descending = np.sort(confidence[k, staying])[::-1]
        count = int(leave[k])
        thresholds[k] = descending[count - 1 : count + 1].mean() if count else NEVER
        staying &= confidence[k] < thresholds[k]
    return thresholds


def write_random_bundle(folder: Path, data: str) -> Path:
    """Write the bundle and return its folder.

    Args:
        folder: New folder of the bundle.
        data: Images, as `--data` of `python -m training`.

    Raises:
        DataError: The data has no test split.
        ExportError: The folder exists.
    """
    recipe = RECIPES[RECIPE]
    dataset = open_dataset(data, recipe.size, recipe.held_out, recipe.seed)
    test = load_test(data, recipe.size, dataset.labels)
    if test is None:
        raise DataError(f"--data: {data} has no test split with labels")
    images = test.decoded()
    network = initial_network(recipe, len(dataset.labels), images.pixels)
    _settle(network, images.pixels)
    progress = Progress(
        recipe_name="random",
        recipe=recipe,
        labels=dataset.labels,
        train_images=1,
        fingerprint=dataset.fingerprint(),
    )
    checkpoint = Checkpoint(progress, network.state_dict(), {}, {})
    naming = Naming(name=NAME, version="1", dataset="the images sent, with random weights")
    export = export_network(checkpoint, images, "max_softmax", print)
    # make_manifest solves budgets, which is slow on many images; they are replaced below
    few = replace(export, scored=export.scored.select(np.arange(len(images)) < FEW))
    manifest = make_manifest(checkpoint, few, naming, "max_softmax")
    points = {name: _point(export.scored, shares) for name, shares in SHARES.items()}
    points["full"] = manifest.budgets["full"]
    curve = tuple(sorted(points.values(), key=lambda p: p.mean_flops.value))
    write_bundle(folder, manifest.model_copy(update={"budgets": points, "curve": curve}), export)
    return folder


@torch.no_grad()
def _settle(network: MultiExitNetwork, pixels: torch.Tensor) -> None:
    """Update the statistics of the batch norms on some images."""
    network.train()
    for batch in torch.split(pixels, BATCH)[:BATCHES]:
        network(network.normalize(batch))
    network.eval()


def _point(scored: Scored, shares: Sequence[float]) -> OperatingPoint:
    found = apply_thresholds(
        scored, quantile_thresholds(scored.confidence.astype(np.float64), shares)
    )
    return operating_point(found, found.accuracy, scored.images)
