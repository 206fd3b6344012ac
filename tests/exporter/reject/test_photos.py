from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from exporter.errors import ExportError
from exporter.reject.photos import LEAST, find_photos, read_photos
from tests.offramp.pictures import DAMAGED, write_files
from tests.training.samples import LABELS, PARQUET
from training.data.images import image_input
from training.data.splits import find_dataset, load_split
from training.errors import DataError


def test_a_folder_is_read_at_all_depths_whatever_its_names_are(tmp_path: Path) -> None:
    write_files(tmp_path / "holiday", 15, 1)
    write_files(tmp_path / "pets" / "cats", 10, 2)
    (tmp_path / "pets" / "cats" / "broken.png").write_bytes(DAMAGED)
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    said: list[str] = []
    found = read_photos(str(tmp_path), image_input(32), said.append)
    assert said[1:] == [f"    {tmp_path}/notes.txt is not an image in a format that is read"]
    assert (found.pixels.shape, found.pixels.dtype) == ((25, 32, 32, 3), torch.uint8)
    assert found.source == tmp_path.name
    (reason,) = found.damaged
    assert "broken.png" in reason


def test_the_folder_of_a_command_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "pets", LEAST, 1)
    monkeypatch.chdir(tmp_path / "pets")
    assert read_photos(".", image_input(32)).source == "pets"


def test_photos_are_decoded_as_for_training() -> None:
    found = read_photos(str(PARQUET), image_input(32))
    expected = load_split(str(PARQUET), "train", 32, LABELS).decoded()
    torch.testing.assert_close(found.pixels, expected.pixels)


def test_a_table_is_read_as_a_data_set(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "photos", 24, 1)
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label"])
        writer.writerows([path.relative_to(tmp_path), "x"] for path in paths)
    assert len(find_dataset(str(tmp_path / "labels.csv")).classes) == 1
    assert len(read_photos(str(tmp_path / "labels.csv"), image_input(16)).pixels) == 24


def test_too_few_photos_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path, LEAST - 1)
    (tmp_path / "broken.png").write_bytes(DAMAGED)
    with pytest.raises(ExportError, match=r"19 photos that can be decoded \(.*broken.*at least 20"):
        read_photos(str(tmp_path), image_input(32))


def test_a_source_without_photos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^--reject: .*no image"):
        read_photos(str(tmp_path), image_input(32))


def test_an_image_with_two_names_is_one_photo(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "photos", 20, 1)
    (tmp_path / "photos" / "zz").mkdir()
    for path in paths[:3]:
        (tmp_path / "photos" / "zz" / path.name).symlink_to(path)
    said: list[str] = []
    (found,) = find_photos(str(tmp_path / "photos"), "--data", said.append)
    assert len(found) == len(list(found)) == 20
    assert said == [
        "  left out: 3",
        *(f"    zz/{path.name} is a second name of {path.name}" for path in paths[:3]),
    ]
