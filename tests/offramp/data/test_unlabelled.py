"""Images without labels are read at all depths, and what is left out is named."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from offramp.data.errors import DatasetError
from offramp.data.parquet.read import WITHHELD
from offramp.data.unlabelled import read_unlabelled
from tests.offramp.data.trees import photos, put


def test_all_images_of_a_folder_are_read_at_any_depth(tmp_path: Path) -> None:
    folder = photos(tmp_path / "set", ["deep/er", "test"], 3)
    put(folder, "1.png", "2.png")
    put(folder, "notes.txt", content=b"text")
    put(folder, ".hidden", content=b"")
    found = read_unlabelled(folder)
    part = found.parts["train"]
    assert len(part.images) == 8
    assert set(part.targets.tolist()) == {WITHHELD}
    assert (found.classes, found.hidden) == ((), 1)
    assert [each.name for each in found.left_out] == ["notes.txt"]


def test_a_second_name_of_a_file_is_left_out(tmp_path: Path) -> None:
    folder = put(tmp_path / "set", "a.png", "b.png")
    (folder / "c.png").symlink_to(folder / "a.png")
    found = read_unlabelled(folder)
    assert [each.name for each in found.parts["train"].images] == ["a.png", "b.png"]
    assert [str(each) for each in found.left_out] == ["c.png is a second name of a.png"]


def test_parquet_files_are_read_without_labels(tmp_path: Path) -> None:
    table = pa.table({"image": [b"one", b"two"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    parquet.write_table(table, tmp_path / "b.parquet")
    for source, rows in ((tmp_path, 4), (tmp_path / "a.parquet", 2)):
        found = read_unlabelled(source)
        assert len(found.parts["train"].images) == rows
        assert found.left_out == ()
    images = [each.image for each in read_unlabelled(tmp_path).parts["train"].images]
    assert images == [b"one", b"two"] * 2


def test_images_beside_parquet_files_with_images_are_two_readings(tmp_path: Path) -> None:
    put(tmp_path, "logo.png")
    parquet.write_table(pa.table({"image": [b"one", b"two"]}), tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match=r"two ways: as 1 image files, or as parquet files with"):
        read_unlabelled(tmp_path)
    parquet.write_table(pa.table({"file": ["logo.png"]}), tmp_path / "a.parquet")
    assert [each.name for each in read_unlabelled(tmp_path).left_out] == ["a.parquet"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "there is no file or folder"),
        ("labels.csv", "is not a parquet file"),
        ("empty", "has no images$"),
        ("texts", r"has no images\. Left out: a\.txt is not an image"),
    ],
)
def test_what_has_no_images_is_refused(tmp_path: Path, name: str, says: str) -> None:
    put(tmp_path, "labels.csv", content=b"file,label")
    (tmp_path / "empty").mkdir()
    put(tmp_path, "texts/a.txt", content=b"text")
    with pytest.raises(DatasetError, match=says):
        read_unlabelled(tmp_path / name)
