from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

from offramp.commands.output import FileOutput, OutputError, check_same_paths
from offramp.commands.rows import Row

RUN: dict[str, object] = {"model": {"name": "m", "version": "1"}, "budget": "low"}
ANSWER = {"label": "cat", "index": 3, "probability": 0.5, "exit": 1, "deadline_hit": False}
ROWS = [Row("a.png", ANSWER, None), Row("b, c.png", None, 'damaged\n"twice"')]


def write(path: Path, rows: list[Row], run: dict[str, object] = RUN) -> None:
    with FileOutput(path, run) as output:
        for row in rows:
            output.write(row)
        output.finish()


def test_csv_has_a_column_for_each_field(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ROWS)
    with (tmp_path / "a.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["file"], first["label"], first["error"]) == ("a.png", "cat", "")
    assert (second["file"], second["label"], second["error"]) == (
        "b, c.png",
        "",
        'damaged\n"twice"',
    )


def test_json_lines_have_all_fields(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", ROWS)
    first, second = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert first == {"file": "a.png", **ANSWER}
    assert second == {"file": "b, c.png", "error": 'damaged\n"twice"'}


def test_parquet_has_typed_columns(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", ROWS)
    first, second = read_table(tmp_path / "a.parquet").to_pylist()
    assert (first["index"], first["deadline_hit"], first["error"]) == (3, False, None)
    assert (second["index"], second["error"]) == (None, 'damaged\n"twice"')


def test_an_output_without_rows_is_still_a_file(tmp_path: Path) -> None:
    for suffix in ("csv", "jsonl", "parquet"):
        write(tmp_path / f"a.{suffix}", [])
    assert read_table(tmp_path / "a.parquet").num_rows == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a.jsonl", "a.parquet"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_at_the_same_time_do_not_mix(tmp_path: Path, overwrite: bool) -> None:
    path = tmp_path / "a.jsonl"
    with FileOutput(path, RUN) as output:
        output.write(ROWS[0])
        with pytest.raises(OutputError, match=r"a\.jsonl\.partial: another run writes it"):
            FileOutput(path, RUN, overwrite=overwrite)
        output.finish()
    assert len(path.read_text().splitlines()) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("torn", [b"", b'{"file": "c.p', b'{"file": "c.png", "error": "x"}'])
def test_an_interrupted_run_continues(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    with FileOutput(path, RUN) as output:
        output.write(ROWS[0])
    assert not path.exists()
    with (tmp_path / "a.jsonl.partial").open("ab") as file:
        file.write(torn)
    with FileOutput(path, RUN) as output:
        assert output.done == {"a.png"}
        output.write(ROWS[1])
        output.finish()
    assert len(path.read_text().splitlines()) == 2
    assert not (tmp_path / "a.jsonl.partial").exists()


def test_a_run_that_was_killed_before_its_first_line_starts_again(tmp_path: Path) -> None:
    (tmp_path / "a.csv.partial").write_bytes(b'{"run": {"mo')
    write(tmp_path / "a.csv", ROWS)
    assert (tmp_path / "a.csv").exists()


def test_rows_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    with FileOutput(tmp_path / "a.csv", RUN) as output:
        output.write(ROWS[0])
    other = {**RUN, "budget": "high"}
    with pytest.raises(OutputError, match="a run with another budget"):
        FileOutput(tmp_path / "a.csv", other)
    with FileOutput(tmp_path / "a.csv", other, overwrite=True) as output:
        assert output.done == set()


@pytest.mark.parametrize("path", [".", "a", "a/b", "a/b/c#1", "a/b/c#1#2"])
def test_rows_of_the_same_paths_are_continued(path: str) -> None:
    check_same_paths(Path("out.csv"), {"a/b/c#1#2"}, [Path("other"), Path(path)])


@pytest.mark.parametrize("path", ["a/b/c", "a/b/c.png#2", "b", "/", "a/b/c.png/d"])
def test_rows_of_other_paths_are_not_mixed_in(path: str) -> None:
    with pytest.raises(OutputError, match=r"out\.csv\.partial has a row of a/b/c\.png#1, which is"):
        check_same_paths(Path("out.csv"), {"a/b/c.png#1"}, [Path(path)])


def test_a_file_that_exists_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", ROWS)
    before = (tmp_path / "a.csv").read_bytes()
    with pytest.raises(OutputError, match="--overwrite replaces it"):
        FileOutput(tmp_path / "a.csv", RUN)
    with FileOutput(tmp_path / "a.csv", RUN, overwrite=True) as output:
        output.write(ROWS[0])
    assert (tmp_path / "a.csv").read_bytes() == before  # until the new run is complete


@pytest.mark.parametrize("content", ["hello\n", "[]\n", '{"run": 1}\n'])
def test_a_partial_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.csv.partial").write_text(content)
    with pytest.raises(OutputError):
        FileOutput(tmp_path / "a.csv", RUN)
    assert (tmp_path / "a.csv.partial").read_text() == content


def test_a_damaged_row_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv.partial").write_text(json.dumps({"run": RUN}) + "\nhello\n")
    with pytest.raises(OutputError, match="is damaged"):
        FileOutput(tmp_path / "a.csv", RUN)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_name_that_is_not_utf8_is_written(tmp_path: Path, suffix: str) -> None:
    name = os.fsdecode(b"\xff.png")
    path = tmp_path / f"a{suffix}"
    write(path, [Row(name, ANSWER, None), Row(name, None, f"{name}: damaged")])
    assert rb"\udcff.png: damaged" in path.read_bytes()


def test_a_run_is_not_continued_without_an_option_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with FileOutput(path, RUN | {"promise": "99%"}) as output:
        output.write(ROWS[0])
    with pytest.raises(OutputError, match="another promise"):
        FileOutput(path, RUN)
