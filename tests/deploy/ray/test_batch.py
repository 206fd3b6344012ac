from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow.parquet import read_table

from deploy.ray.batch import BatchOptions, actors_for, last_cause, main, prepare
from deploy.ray.batch_check import differences
from tests.offramp.pictures import DAMAGED, write_files


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--bundle or OFFRAMP_BUNDLE: a value is required"),
        (["--bundle", "b"], "--out or OFFRAMP_OUT: a value is required"),
        (["--bundle", "b", "--out", "o", "--part-images", "0"], "--part-images"),
        (["--bundle", "b", "--out", "o", "--url", "http://x"], "--url"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["images", *arguments]) == 2
    assert text in capsys.readouterr().err


def test_a_refusal_comes_before_anything_is_written(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "images", 1)
    out = tmp_path / "out"
    words = [str(tmp_path / "images"), "--bundle", str(bundle), "--out", str(out)]
    assert main([*words, "--budget", "cheap"]) == 1
    assert main([str(tmp_path / "none"), *words[1:]]) == 1
    assert "there is no such file or folder" in capsys.readouterr().err
    assert not out.exists()


def test_a_run_is_continued_with_the_same_options_only(bundle: Path, tmp_path: Path) -> None:
    write_files(tmp_path / "images", 3)
    options = BatchOptions(paths=[tmp_path / "images"], bundle=bundle, out=tmp_path / "out")
    job, plan = prepare(options)
    write_files(tmp_path / "images", 5)  # images that come later are not part of the run
    assert prepare(options) == (job, plan)
    overwriting = options.model_copy(update={"overwrite": True})
    assert prepare(overwriting)[1].images == 5


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "actors"),
    [
        ({"CPU": 16.0}, 1, 0.0, 16),
        ({"CPU": 16.0}, 5, 0.0, 3),
        ({"CPU": 16.0, "GPU": 2.0}, 1, 0.5, 4),
        ({"CPU": 1.0}, 4, 1.0, 1),
    ],
)
def test_there_are_as_many_actors_as_the_cluster_has_room_for(
    resources: dict[str, float], cpus: int, gpus: float, actors: int
) -> None:
    assert actors_for(resources, cpus, gpus) == actors


def test_the_first_cause_of_an_error_is_named() -> None:
    inner = OSError("no space")
    outer = RuntimeError("a task failed")
    outer.__cause__ = ValueError("wrapped")
    outer.__cause__.__cause__ = inner
    assert last_cause(outer) is inner
    assert last_cause(inner) is inner


def test_differences_name_what_is_lost_doubled_or_other() -> None:
    rows = pa.table(
        {"file": ["a", "b", "c"], "exit": [1, 2, None], "confidence": [0.5, 0.25, None]}
    )
    assert differences(rows, rows) == []
    assert differences(rows, rows.take([0, 1, 1])) == ["1 images lost, 1 doubled, 3 rows of 3"]
    other = rows.set_column(1, "exit", [[1, 3, None]]).set_column(
        2, "confidence", [[0.5, 0.2, None]]
    )
    assert differences(rows, other) == [
        "exit differs for 1 images, first b",
        "confidence differs for 1 images, first b",
    ]


def test_a_folder_is_classified_on_ray(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="Ray has an environment of its own: make ray-batch-check")
    paths = write_files(tmp_path / "images", 6)
    paths[2].write_bytes(DAMAGED)
    words = [str(tmp_path / "images"), "--bundle", str(bundle), "--out", str(tmp_path / "out")]
    assert main([*words, "--part-images", "2", "--actors", "1"]) == 0
    assert "6/6 images, 1 failed" in capsys.readouterr().err
    rows = read_table(tmp_path / "out").to_pylist()
    assert [row["file"] for row in rows] == list(map(str, paths))
    assert [number for number, row in enumerate(rows) if row["error"]] == [2]
