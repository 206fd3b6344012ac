from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.training.samples import tiny_dataset, tiny_progress
from training.data.batches import Batches, new_batches
from training.data.datasets import Dataset, open_dataset
from training.data.images import ImageFiles, Images
from training.errors import DataError, RecipeError
from training.recipes import Recipe

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the tiny data set as a folder of images by class."""
    root, dataset = tmp_path_factory.mktemp("images"), tiny_dataset()
    for i, (pixels, target) in enumerate(
        zip(dataset.train.pixels[:60], dataset.train.targets[:60].tolist(), strict=True)
    ):
        place = root / dataset.labels[target]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels.numpy()).save(place / f"{i}.png")
    return root


@cache
def on_disk(folder: Path) -> Dataset[ImageFiles]:
    return open_dataset(str(folder), 32, held_out=20, seed=0)


def recipe(**changes: object) -> Recipe:
    return tiny_progress(batch_size=10, **changes).recipe


def batches_of(
    recipe: Recipe, dataset: Dataset[Images] | Dataset[ImageFiles], workers: int = 0
) -> Batches:
    return new_batches(recipe, dataset.train, dataset.held_out, CPU, workers)


def gathered(batches: Iterator[Images]) -> Images:
    pixels, targets = zip(*((b.pixels, b.targets) for b in batches), strict=True)
    return Images(torch.cat(pixels), torch.cat(targets))


def same(one: Images, other: Images) -> bool:
    return torch.equal(one.pixels, other.pixels) and torch.equal(one.targets, other.targets)


def test_batches_from_disk_equal_those_from_memory(folder: Path) -> None:
    disk = batches_of(recipe(), on_disk(folder))
    memory = batches_of(recipe(), on_disk(folder).decoded())
    assert disk.steps == memory.steps == 4
    assert same(gathered(disk.epoch(1, 0)), gathered(memory.epoch(1, 0)))
    assert same(gathered(disk.held_out()), gathered(memory.held_out()))
    assert torch.equal(disk.sample(), memory.sample())
    assert on_disk(folder).fingerprint() == on_disk(folder).decoded().fingerprint()


def test_batches_do_not_depend_on_workers(folder: Path) -> None:
    alone = batches_of(recipe(crop="resized"), on_disk(folder))
    two = batches_of(recipe(crop="resized"), on_disk(folder), workers=2)
    for epoch in (0, 1):
        assert same(gathered(alone.epoch(epoch, 0)), gathered(two.epoch(epoch, 0)))
        assert same(gathered(alone.held_out()), gathered(two.held_out()))
    assert not same(gathered(alone.epoch(0, 0)), gathered(alone.epoch(1, 0)))


@pytest.mark.parametrize("crop", ["shifted", "resized"])
def test_an_epoch_can_start_at_any_step(folder: Path, crop: str) -> None:
    from_disk = batches_of(recipe(crop=crop), on_disk(folder))
    whole, rest = gathered(from_disk.epoch(2, 0)), gathered(from_disk.epoch(2, 3))
    assert same(rest, whole.select(torch.arange(30, 40)))


@pytest.mark.parametrize("crop", ["shifted", "resized"])
def test_the_shards_of_a_batch_form_the_batch(
    folder: Path, monkeypatch: pytest.MonkeyPatch, crop: str
) -> None:
    chosen = recipe(crop=crop)
    alone = batches_of(chosen, on_disk(folder))
    whole = list(alone.epoch(0, 0)), list(alone.held_out())
    monkeypatch.setattr("training.data.batches.processes", lambda: 2)
    shards = []
    for rank in (0, 1):
        monkeypatch.setattr(
            "training.data.batches.shard", lambda batch, r=rank: batch.tensor_split(2)[r]
        )
        part = batches_of(chosen, on_disk(folder))
        shards.append((list(part.epoch(0, 0)), list(part.held_out())))
    for i, batches in enumerate(whole):
        for batch, first, second in zip(batches, shards[0][i], shards[1][i], strict=True):
            assert same(gathered(iter([first, second])), batch)


def test_a_resized_crop_shows_part_of_its_image(folder: Path) -> None:
    """Every training image differs from the stored image, and no held-out image does."""
    plain = on_disk(folder).decoded()
    found = gathered(
        batches_of(recipe(crop="resized", flip=False, cutout=0), on_disk(folder)).epoch(0, 0)
    )
    assert not (found.pixels[:, None] == plain.train.pixels).flatten(2).all(2).any()
    held_out = gathered(batches_of(recipe(crop="resized"), on_disk(folder)).held_out())
    assert torch.equal(held_out.pixels, plain.held_out.pixels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_raises_a_one_line_error_that_names_it(
    tmp_path: Path, folder: Path, workers: int
) -> None:
    for path in folder.rglob("*.png"):
        copy = tmp_path / path.relative_to(folder)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(path.read_bytes()[:100])
    broken = batches_of(recipe(), open_dataset(str(tmp_path), 32, held_out=20, seed=0), workers)
    with pytest.raises(DataError, match=r"\.png cannot be decoded") as error:
        next(broken.epoch(0, 0))
    assert "\n" not in str(error.value)


def test_a_batch_that_cannot_be_divided_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.data.batches.processes", lambda: 3)
    with pytest.raises(RecipeError, match="batch_size: 10 images cannot be divided evenly by 3"):
        batches_of(recipe(), tiny_dataset())


def test_random_parts_require_images_on_disk() -> None:
    with pytest.raises(RecipeError, match="crop"):
        batches_of(recipe(crop="resized"), tiny_dataset())
