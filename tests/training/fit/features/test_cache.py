"""The features of a run are computed once, and kept for runs with the same trunk and images."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from tests.offramp.data.trees import photos
from tests.training.pretrained import LITE, original
from training.data.datasets import Dataset, open_dataset
from training.data.images import ImageFiles
from training.errors import DataError
from training.fit.features.cache import Place, cached_features
from training.networks.predict import predict
from training.recipes import Recipe

CPU = torch.device("cpu")


def recipe(**changes: object) -> Recipe:
    cached = {"freeze": "trunk", "cache_features": True, "shift": 0}
    return Recipe.model_validate(LITE.model_dump() | cached | changes)


def opened(given: Recipe) -> Dataset[ImageFiles]:
    return open_dataset(given.data, given.size, given.held_out, given.seed)


def place(folder: Path) -> Place:
    return Place(folder, CPU, Console(quiet=True))


def test_the_views_of_an_image_are_it_and_its_mirror_image(tmp_path: Path) -> None:
    dataset = opened(recipe())
    sets = cached_features(recipe(), original(), dataset, place(tmp_path))
    assert (len(sets.train), sets.train.views) == (400, 2)
    assert (len(sets.held_out), sets.held_out.views) == (100, 1)
    pixels = dataset.train.select(torch.arange(5)).decoded().pixels
    network = original()
    for view, images in enumerate((pixels, pixels.flip(2))):
        stored = sets.train.select(torch.arange(5), view)
        logits = [
            head(each)
            for head, each in zip(
                network.heads, sets.layout.unpack(stored.pixels.float()), strict=True
            )
        ]
        expected = predict(network, images)
        torch.testing.assert_close(torch.stack(logits), expected, atol=1e-2, rtol=1e-2)
        assert torch.equal(stored.targets, dataset.train.targets[:5])


def names(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.f16")}


def test_the_same_features_are_not_computed_again(tmp_path: Path) -> None:
    dataset = opened(recipe())
    cached_features(recipe(), original(), dataset, place(tmp_path))
    before = names(tmp_path)
    cached_features(recipe(epochs=9), original(), dataset, place(tmp_path))
    assert names(tmp_path) == before
    assert len(before) == 2


@pytest.mark.parametrize(
    "changes",
    [{"flip": False}, {"size": 24}, {"held_out": 50}, {"backbone": "timm:same_tensors"}],
)
def test_other_features_have_a_file_of_their_own(tmp_path: Path, changes: dict[str, Any]) -> None:
    before = recipe()
    cached_features(before, original(), opened(before), place(tmp_path))
    after = recipe(**changes)
    cached_features(after, original(), opened(after), place(tmp_path))
    assert len(names(tmp_path)) == (3 if changes == {"flip": False} else 4)


def test_a_file_that_changed_is_another_image(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", ["ant", "bee"], 5)
    given = recipe(data=str(folder), held_out=2)
    cache = tmp_path / "cache"
    cached_features(given, original(), opened(given), place(cache))
    first = opened(given).train
    (one,) = first.encoded.read(first.rows[:1].tolist())
    assert isinstance(one.image, Path)
    Image.new("RGB", (9, 9), "red").save(one.image)
    cached_features(given, original(), opened(given), place(cache))
    assert len(names(cache)) == 3


def test_damaged_images_are_all_named(tmp_path: Path) -> None:
    folder = photos(tmp_path / "photos", ["ant", "bee"], 100)
    given = recipe(data=str(folder), held_out=2)
    train = opened(given).train
    for position in (3, 150):
        (one,) = train.encoded.read(train.rows[position : position + 1].tolist())
        assert isinstance(one.image, Path)
        one.image.write_bytes(one.image.read_bytes()[:60])
    with pytest.raises(DataError, match=r"2 of 198 images cannot be decoded"):
        cached_features(given, original(), opened(given), place(tmp_path / "cache"))


def test_features_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    network = deepcopy(original())
    *_, last = (m for m in network.stages[-1].modules() if isinstance(m, torch.nn.BatchNorm2d))
    with torch.no_grad():
        last.weight.mul_(1e6)
    with pytest.raises(DataError, match="too large for float16; give --cache-features false"):
        cached_features(recipe(), network, opened(recipe()), place(tmp_path))
    assert not any(path.stat().st_size for path in tmp_path.glob("*.f16"))
