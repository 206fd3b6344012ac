"""The cache of shrunk images."""

import fcntl
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.training.samples import PARQUET
from training.data.datasets import open_dataset
from training.data.images import ImageFiles
from training.data.shrunk.cache import shrunk
from training.data.shrunk.forms import stored_side
from training.errors import DataError

SIZE = 48


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write eight smooth photos of 360 x 270 pixels, one turned by EXIF, and a small one."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for number in range(9):
        small = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        size = (72, 60) if number == 8 else (360, 270)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6 if number == 1 else 1
        place = folder / "ab"[number % 2]
        place.mkdir(exist_ok=True)
        photo = small.resize(size, Image.Resampling.BICUBIC)
        photo.save(place / f"{number}.jpg", exif=exif, quality=95)
    return folder


def files_of(folder: Path) -> ImageFiles:
    data = open_dataset(str(folder), SIZE, held_out=1, seed=0)
    rows = torch.cat([data.train.rows, data.held_out.rows])
    targets = torch.cat([data.train.targets, data.held_out.targets])
    return replace(data.train, rows=rows, targets=targets, smallest_crop=0.7)


def with_cache(files: ImageFiles, folder: Path, *, parts: bool = True) -> tuple[ImageFiles, int]:
    """Return the images in a cache, and the number of those that were shrunk now."""
    counted: list[int] = []

    def track(groups: Iterable[list[int]], _: int) -> Iterable[list[int]]:
        for group in groups:
            counted.extend(group)
            yield group

    return shrunk(files, folder, "train", parts=parts, track=track), len(counted)


def random_part(files: ImageFiles, number: int) -> np.typing.NDArray[np.int64]:
    (file,) = files.select(torch.tensor([number])).files()
    return files.pixels(file, np.random.default_rng(number)).astype(np.int64)


def test_parts_of_shrunk_images_are_those_of_the_originals(photos: Path, tmp_path: Path) -> None:
    files = files_of(photos)
    cached, made = with_cache(files, tmp_path)
    assert made == 9
    for number in range(9):
        difference = random_part(files, number) - random_part(cached, number)
        assert np.abs(difference).mean() < 3, number
    (path,) = tmp_path.glob("*.zip")
    with ZipFile(path) as stored:
        sizes = [Image.open(stored.open(each)).size for each in stored.infolist() if each.file_size]
    side = stored_side(SIZE, 0.7)
    assert sorted(sizes) == sorted(
        [(round(side * 4 / 3), side)] * 7 + [(side, round(side * 4 / 3))]
    )


def test_the_middle_is_stored_without_a_change(photos: Path, tmp_path: Path) -> None:
    files = files_of(photos)
    cached, _ = with_cache(files, tmp_path, parts=False)
    assert torch.equal(cached.decoded().pixels, files.decoded().pixels)
    assert torch.equal(cached.decoded().targets, files.targets)


def test_rows_of_a_table_are_cached_by_their_bytes(tmp_path: Path) -> None:
    files = open_dataset(str(PARQUET), SIZE, held_out=100, seed=0).train
    some = files.select(torch.tensor([5, 3, 99]))
    cached, made = with_cache(some, tmp_path, parts=False)
    again, made_again = with_cache(some, tmp_path, parts=False)
    assert (made, made_again) == (3, 0)
    for each in (cached, again):
        assert torch.equal(each.decoded().pixels, some.decoded().pixels)


def test_only_changed_and_new_images_are_shrunk_again(photos: Path, tmp_path: Path) -> None:
    source, cache = tmp_path / "photos", tmp_path / "cache"
    shutil.copytree(photos, source)
    assert with_cache(files_of(source), cache)[1] == 9
    assert with_cache(files_of(source), cache)[1] == 0
    shutil.copy(source / "a/0.jpg", source / "a/10.jpg")
    Image.new("RGB", (360, 270), "red").save(source / "b/3.jpg")
    cached, made = with_cache(files_of(source), cache)
    assert made == 2
    assert torch.equal(
        with_cache(files_of(source), tmp_path / "other")[0].decoded().pixels,
        cached.decoded().pixels,
    )
    (source / "a/10.jpg").unlink()
    assert with_cache(files_of(source), cache)[1] == 0
    (path,) = cache.glob("*.zip")
    assert len(ZipFile(path).infolist()) == 9, "images that are not used are dropped"


def test_a_damaged_photo_is_named_and_leaves_no_cache(photos: Path, tmp_path: Path) -> None:
    source, cache = tmp_path / "photos", tmp_path / "cache"
    shutil.copytree(photos, source)
    os.truncate(source / "b/5.jpg", 400)
    with pytest.raises(DataError, match=r"5\.jpg cannot be decoded"):
        with_cache(files_of(source), cache)
    assert not list(cache.glob("[!.]*"))


def test_a_damaged_cache_is_made_again_or_named(photos: Path, tmp_path: Path) -> None:
    cached, _ = with_cache(files_of(photos), tmp_path)
    (path,) = tmp_path.glob("*.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert with_cache(files_of(photos), tmp_path)[1] == 9
    with ZipFile(path) as stored:
        first = next(each for each in stored.infolist() if each.file_size)
    content = bytearray(path.read_bytes())
    content[first.header_offset + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"the cache .*\.zip is damaged .*; remove it"):
        list(cached.files())


def test_two_runs_do_not_write_one_cache_at_a_time(photos: Path, tmp_path: Path) -> None:
    files = files_of(photos)

    def track(groups: Iterable[list[int]], _: int) -> Iterable[list[int]]:
        with pytest.raises(DataError, match=r"--cache: another run writes .*zip; wait for"):
            with_cache(files, tmp_path)
        return groups

    shrunk(files, tmp_path, "train", parts=True, track=track)
    (lock,) = tmp_path.glob(".*.lock")
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert with_cache(files, tmp_path)[1] == 0, "a complete cache is read without the lock"


def test_an_image_that_another_run_dropped_is_read_from_its_own_file(
    photos: Path, tmp_path: Path
) -> None:
    files = files_of(photos)
    cached, _ = with_cache(files, tmp_path)
    fewer = replace(files, rows=files.rows[:1], targets=files.targets[:1])
    with_cache(fewer, tmp_path)
    assert [each.encoded for each in cached.files()][1:] == [
        each.encoded for each in files.files()
    ][1:]
