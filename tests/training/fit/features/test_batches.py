"""Batches of stored features have the order, labels and mirror images of a run on images."""

from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from tests.training.pretrained import LITE, original
from training.data.batches import MemoryBatches
from training.data.datasets import open_dataset
from training.fit.features.batches import FeatureBatches
from training.fit.features.cache import Place, cached_features
from training.fit.features.layout import layout_of, trunk_features
from training.recipes import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe.model_validate(
    LITE.model_dump() | {"freeze": "trunk", "cache_features": True, "shift": 0}
)


def test_a_batch_has_the_features_of_the_same_run_on_images(tmp_path: Path) -> None:
    files = open_dataset(RECIPE.data, RECIPE.size, RECIPE.held_out, RECIPE.seed)
    place = Place(tmp_path, CPU, Console(quiet=True))
    sets = cached_features(RECIPE, original(), files, place)
    decoded = files.decoded()
    stored = FeatureBatches(RECIPE, sets, CPU)
    plain = MemoryBatches(RECIPE, decoded.train, decoded.held_out, CPU)
    assert (stored.steps, stored.images_in_epoch) == (plain.steps, plain.images_in_epoch)
    network = original()
    layout = layout_of(network, RECIPE.size)
    for epoch in (0, 1):
        for rows, images in zip(stored.epoch(epoch, 1), plain.epoch(epoch, 1), strict=True):
            assert torch.equal(rows.targets, images.targets)
            found = layout.pack(trunk_features(network, network.normalize(images.pixels)))
            torch.testing.assert_close(rows.pixels.float(), found, atol=2e-2, rtol=2e-3)
    (held_out,) = stored.held_out()
    assert torch.equal(held_out.targets, decoded.held_out.targets)
    assert held_out.pixels.dtype == torch.float16
    assert np.shape(held_out.pixels) == (100, layout.length)
