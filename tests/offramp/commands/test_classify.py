from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.parquet import read_table

from offramp import Classifier
from offramp.commands.classify import main
from offramp.commands.output import FileOutput
from tests.offramp.pictures import DAMAGED, files, write_files, write_parquet
from tests.serving.servers import Running, serving, until
from tests.serving.small_bundle import write_bundle


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Running]:
    with serving(bundle, api_key="secret") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path / "images", 20, 1)
    return tmp_path / "images"


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_rows_are_printed_as_csv(
    bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(folder), "--bundle", str(bundle), "--budget", "low"]) == 0
    rows = rows_of(capsys.readouterr().out)
    with Classifier.open(bundle) as classifier:
        paths = sorted(folder.iterdir())
        answers = classifier.classify(paths, "low")
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert [(row["label"], int(row["exit"])) for row in rows] == [
        (answer.label, answer.exit) for answer in answers
    ]


def test_a_server_gives_the_rows_of_a_bundle(
    bundle: Path,
    folder: Path,
    server: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OFFRAMP_API_KEY", "secret")
    monkeypatch.setenv("OFFRAMP_BUNDLE", str(bundle))  # a setting of `offramp serve`
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    assert main([str(folder), "--bundle", str(bundle), "-o", str(here)]) == 0
    assert main([str(folder), "--url", server.url, "-o", str(there)]) == 0
    lines = zip(here.read_text().splitlines(), there.read_text().splitlines(), strict=True)
    for one, other in lines:
        row, same = json.loads(one), json.loads(other)
        assert (row["file"], row["label"], row["exit"]) == (
            same["file"],
            same["label"],
            same["exit"],
        )
        assert len(row["top_k"]) == len(same["top_k"]) == 5


@pytest.mark.parametrize("remote", [False, True])
def test_a_damaged_file_is_listed_and_not_the_end(
    bundle: Path,
    folder: Path,
    server: Running,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    remote: bool,
) -> None:
    (folder / "0003.png").write_bytes(DAMAGED)
    (folder / "0007.png").unlink()
    (folder / "0007.png").symlink_to("missing.png")
    (folder / "0008.png").chmod(0)
    out = tmp_path / "out.parquet"
    model = ["--url", server.url, "--api-key", "secret"] if remote else ["--bundle", str(bundle)]
    assert main([str(folder), *model, "--out", str(out)]) == 0
    errors = {Path(row["file"]).name: row["error"] for row in read_table(out).to_pylist()}
    assert "cannot be decoded" in errors["0003.png"]
    assert f"{folder / '0003.png'}: " in capsys.readouterr().err
    assert errors["0002.png"] is None


def test_reject_of_a_bundle_without_it_is_refused_before_anything_is_written(
    bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out" / "a.csv"
    out.parent.mkdir()
    assert main([str(folder), "--bundle", str(bundle), "--reject", "-o", str(out)]) != 0
    assert "reject" in capsys.readouterr().err
    assert not list(out.parent.iterdir())


def test_no_answer_at_all_is_a_refusal(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(DAMAGED)
    assert main([str(tmp_path / "a.png"), "--bundle", str(bundle)]) == 1
    assert "no image has an answer" in capsys.readouterr().err


def test_rows_of_a_parquet_file_are_numbered(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_parquet(tmp_path / "a.parquet", files(3))
    assert main([str(path), "--bundle", str(bundle)]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [row["file"] for row in rows] == [f"{path}#{number}" for number in range(3)]


def test_an_interrupted_run_continues(bundle: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out.csv"
    paths = write_files(folder, 3000)
    command = [sys.executable, "-m", "offramp", "classify", str(folder)]
    command += ["--bundle", str(bundle), "--threads", "1", "-o", str(out)]
    partial = tmp_path / "out.csv.partial"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as popen:
        until(lambda: partial.exists() and partial.stat().st_size > 20_000, 60)
        popen.send_signal(signal.SIGINT)
        _, text = popen.communicate(timeout=30)
    assert popen.returncode == 130, text
    assert "continues" in text
    assert not out.exists()
    done = [json.loads(line)["file"] for line in partial.read_text().splitlines()[1:]]
    assert 0 < len(done) < len(paths)
    for path in paths[: len(done)]:
        path.write_bytes(b"")  # would now fail
    assert main([str(folder), "--bundle", str(bundle), "-o", str(out)]) == 0
    rows = rows_of(out.read_text())
    assert sorted(row["file"] for row in rows) == [str(path) for path in paths]
    assert not any(row["error"] for row in rows)


def test_another_budget_does_not_continue_a_run(
    bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out.csv")
    run = {"model": {"name": "testnet", "version": "1"}, "budget": "low"}
    (tmp_path / "out.csv.partial").write_text(json.dumps({"run": run}) + "\n")
    arguments = [str(folder), "--bundle", str(bundle), "--budget", "high", "-o", out]
    assert main(arguments) == 1
    assert "another" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def interrupt(command: list[str]) -> None:
    """Run a command, and stop it when all of its rows are beside the file."""

    def stop(_: FileOutput) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileOutput, "finish", stop)
        assert main(command) == 130


def test_other_paths_do_not_continue_a_run(
    bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--bundle", str(bundle), "--out", str(tmp_path / "out.jsonl")]
    interrupt([str(folder), *command])
    assert main([str(next(folder.iterdir())), *command]) == 1
    assert "which is not in the paths of this command" in capsys.readouterr().err
    assert main([str(folder), *command]) == 0


def test_another_bundle_of_the_same_name_and_version_does_not_continue_a_run(
    bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(folder), "--out", str(tmp_path / "out.csv"), "--bundle"]
    interrupt([*command, str(bundle)])
    assert main([*command, str(write_bundle(tmp_path / "other", seed=8))]) == 1
    assert "another model" in capsys.readouterr().err
    assert main([*command, str(bundle)]) == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "--bundle"),
        (["--bundle", "b", "--url", "http://x"], "either --bundle or --url"),
        (["--bundle", "b", "--out", "a.txt"], ".csv, .jsonl, .parquet"),
        (["--bundle", "b", "--top-k", "0"], "--top-k"),
        (["--bundel", "b"], "did you mean --bundle"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["a.png", *arguments]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["no/such.png", "--bundle", "BUNDLE"],
        ["IMAGES", "--bundle", "no/such"],
        ["IMAGES", "--bundle", "BUNDLE", "--budget", "cheap"],
        ["IMAGES", "--url", "http://127.0.0.1:1"],
    ],
)
def test_a_refusal_is_one_line(
    arguments: list[str], bundle: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"BUNDLE": str(bundle), "IMAGES": str(folder)}
    assert main([names.get(word, word) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_a_terminal_has_a_progress_bar(bundle: Path, folder: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "offramp", "classify", str(folder)]
    command += ["--bundle", str(bundle), "-o", str(tmp_path / "out.csv")]
    subprocess.run(command, check=True, stderr=theirs)
    os.close(theirs)
    time.sleep(0.1)
    assert "20/20 images" in os.read(ours, 1 << 16).decode()
    os.close(ours)


def test_reject_is_a_column_of_a_run_that_asks_for_it(
    reject_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(folder), "--bundle", str(reject_bundle), "--reject"]
    assert main(options) == 0
    rows = rows_of(capsys.readouterr().out)
    assert {row["reject"] for row in rows} == {"True", "False"}
    assert [*rows[0]][-2:] == ["reject", "error"]
    assert main([*options, "--out", str(tmp_path / "a.parquet")]) == 0
    written = [str(row["reject"]) for row in read_table(tmp_path / "a.parquet").to_pylist()]
    assert written == [row["reject"] for row in rows]
    assert main([*options[:3], "--out", str(tmp_path / "a.jsonl")]) == 0
    assert '"reject"' not in (tmp_path / "a.jsonl").read_text()


def test_a_promise_is_in_the_rows_of_a_run_that_asks_for_it(
    promise_bundle: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [str(folder), "--bundle", str(promise_bundle)]
    assert main([*options, "--promise", "99%", "--out", str(tmp_path / "a.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    kept = {"kind": "agreement", "epsilon": 0.01, "delta": 0.05, "kept": True}
    kept |= {"broken": False, "answered_by": None}  # which only audits of a server change
    assert [row["promise"] for row in rows if "error" not in row] == [kept] * len(rows)
    assert main([*options, "--out", str(tmp_path / "b.jsonl")]) == 0
    assert '"promise"' not in (tmp_path / "b.jsonl").read_text()
    assert main([*options, "--promise", "99.9%"]) == 1
    assert "99.9% is not certified" in capsys.readouterr().err
