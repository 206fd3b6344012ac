from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

from deploy.ray.output_folder import SUCCESS, OutputFolder, Plan
from offramp.commands.output import OutputError
from offramp.commands.rows import Row, columns_of
from offramp.inputs.datasets import ImageItems, find_images
from offramp.inputs.parts import parts_of
from tests.offramp.pictures import files, write_files, write_parquet

RUN = {"model": {"name": "m", "version": "1"}, "budget": "low"}
COLUMNS = columns_of(reject=False)


@pytest.fixture
def images(tmp_path: Path) -> ImageItems:
    write_files(tmp_path / "images", 3)
    rows = write_parquet(tmp_path / "rows.parquet", files(4))
    return find_images([tmp_path / "images", rows])


def not_called() -> ImageItems:
    raise AssertionError("the images were listed again")


def rows_of(folder: OutputFolder, part: int) -> list[Row]:
    return [Row(f"{part}", None, "damaged")] * sum(map(len, folder.pieces(part)))


def test_the_last_part_has_the_remaining_images() -> None:
    plan = Plan(11, 4)
    assert [plan.size(part) for part in plan.parts] == [4, 4, 3]
    assert list(Plan(0, 4).parts) == []


def test_the_list_of_images_is_stored_by_part(tmp_path: Path, images: ImageItems) -> None:
    odd = tmp_path / os.fsdecode(b"\xff.png")
    listed = ImageItems(
        [odd, *(piece.file for piece in images.pieces)], [tmp_path / "rows.parquet"]
    )
    folder = OutputFolder(tmp_path / "new" / "out")
    plan = folder.start(RUN, 3, lambda: listed)
    assert [folder.pieces(part) for part in plan.parts] == list(parts_of(listed.pieces, 3))
    assert plan == Plan(8, 3)


def test_only_parts_without_rows_are_missing(tmp_path: Path, images: ImageItems) -> None:
    folder = OutputFolder(tmp_path / "out")
    plan = folder.start(RUN, 3, lambda: images)
    folder.write(1, rows_of(folder, 1), COLUMNS)
    (folder.path / ".part-000002.parquet.1234.partial").touch()  # of a process that was killed
    again = OutputFolder(tmp_path / "out")
    assert again.start(RUN, 99, not_called) == plan
    assert again.missing(plan) == [0, 2]
    for part in (0, 2):
        again.write(part, rows_of(folder, part), COLUMNS)
    assert again.missing(plan) == []
    again.finish()
    assert read_table(folder.path)["file"].to_pylist() == ["0"] * 3 + ["1"] * 3 + ["2"]
    assert (folder.path / SUCCESS).exists()
    assert not list(folder.path.glob(".*"))


def test_rows_that_cannot_be_written_leave_no_file(tmp_path: Path, images: ImageItems) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.start(RUN, 3, lambda: images)
    before = sorted(folder.path.iterdir())
    with pytest.raises(Exception, match="not a number"):
        folder.write(0, [Row("a", {"exit": "not a number"}, None)], COLUMNS)
    assert sorted(folder.path.iterdir()) == before


def test_a_run_with_other_options_is_refused_until_it_is_removed(
    tmp_path: Path, images: ImageItems
) -> None:
    folder = OutputFolder(tmp_path / "out")
    folder.remove()  # there is nothing yet
    folder.start(RUN, 3, lambda: images)
    folder.write(0, rows_of(folder, 0), COLUMNS)
    for other in (RUN | {"budget": "high"}, {"model": RUN["model"]}):
        with pytest.raises(OutputError, match="another budget; --overwrite starts again"):
            folder.start(other, 3, not_called)
    folder.remove()
    assert not list(folder.path.iterdir())
    assert folder.missing(folder.start(RUN | {"budget": "high"}, 3, lambda: images)) == [0, 1, 2]


def test_files_of_no_run_are_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").touch()
    folder = OutputFolder(tmp_path)
    folder.remove()
    with pytest.raises(OutputError, match="has files of no run"):
        folder.start(RUN, 3, not_called)
    (tmp_path / "_run.json").write_text("{")
    with pytest.raises(OutputError, match="is damaged"):
        folder.start(RUN, 3, not_called)
    assert (tmp_path / "mine.parquet").exists()
