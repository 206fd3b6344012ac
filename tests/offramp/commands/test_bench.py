"""`offramp bench` against a real server, by each protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offramp.commands import bench
from offramp.commands.bench import main
from tests.offramp.pictures import write_files
from tests.serving.servers import Running, serving

SHORT = ("--seconds", "0.2", "--warm-up", "0")


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[Running]:
    with serving(bundle, api_key="s3cret") as running:
        yield running


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_API_KEY", "s3cret")


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """Return the result of the command in JSON."""
    assert main([*arguments, *SHORT, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def check(load: dict[str, Any]) -> None:
    assert load["statuses"] == {"200": load["requests"]}
    assert load["errors"] == 0
    assert 0 <= load["answers_per_second"] * load["seconds"] <= load["requests"] + 1e-6
    assert 0 < load["p50"] <= load["p95"] <= load["p99"] <= load["longest"]
    assert sum(load["exits"].values()) == pytest.approx(1)
    assert 100_000 <= load["mean_flops"] <= 700_000


def test_each_load_of_the_native_protocol_has_its_numbers(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    loads = ("--clients", "2", "--rate", "50", "--rate", "100", "--query", "budget=low")
    found = measured(capsys, server.url, *loads)
    assert (found["protocol"], found["model"], found["full_flops"]) == ("native", "testnet", 640000)
    assert [(each["load"], each["clients"], each["rate"]) for each in found["loads"]] == [
        ("closed", 2, None),
        ("open", None, 50),
        ("open", None, 100),
    ]
    for load in found["loads"]:
        check(load)


def test_a_closed_loop_that_ran_out_of_requests_counts_its_own_time(
    server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "MANY", 20)
    options = ("--clients", "2", "--seconds", "60", "--warm-up", "0", "--format", "json")
    assert main([server.url, *options]) == 0
    (load,) = json.loads(capsys.readouterr().out)["loads"]
    assert load["requests"] == 20
    assert load["seconds"] < 30
    assert load["answers_per_second"] * load["seconds"] == pytest.approx(20)


@pytest.mark.parametrize("encoding", ["binary", "json"])
@pytest.mark.parametrize("with_files", [False, True])
def test_the_inference_protocol_has_the_same_numbers(
    server: Running,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    encoding: str,
    with_files: bool,
) -> None:
    options = ["--protocol", "oip", "--encoding", encoding, "--clients", "2"]
    if with_files:
        write_files(tmp_path / "images", 3, 0)
        options += ["--images", str(tmp_path / "images")]
    found = measured(capsys, server.url, *options)
    assert (found["protocol"], found["model"]) == ("oip", "testnet")
    check(found["loads"][0])


def test_a_table_has_a_row_for_each_load(
    server: Running, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_files(tmp_path / "images", 2, 0)
    files = ("--images", str(tmp_path / "images"))
    assert main([server.url, *files, "--clients", "1", "--rate", "20", *SHORT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"testnet at {server.url}, native protocol, /classify"
    rows = [line for line in lines if not line.startswith("  ")][2:]
    assert [row.split()[:2] for row in rows] == [["1", "client"], ["20", "requests/s"]]
    assert sum(line.startswith("  exits 1: ") or "exits" in line for line in lines) == 2
    assert "of full depth" in lines[4]


def test_refusals_are_counted_by_status(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--query", "budget=huge", "--clients", "1")
    assert main([server.url, *options, *SHORT]) == 1
    output = capsys.readouterr()
    assert "100.00%" in output.out
    assert "statuses 422: " in output.out
    assert "no request was answered" in output.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["ftp://x"], 1, "not the URL of a server"),
        (["http://127.0.0.1:1"], 1, "cannot be reached"),
        (["URL", "--api-key", "wrong"], 1, "401"),
        (["URL", "--model", "other"], 1, "there is no model other"),
        (["URL", "--rate", "0"], 2, "--rate"),
        (["URL", "--images", "no/such"], 1, "no such file"),
    ],
)
def test_what_cannot_be_measured_is_named(
    server: Running,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    here = [server.url if word == "URL" else word for word in arguments]
    assert main([*here, *SHORT]) == code
    assert says in capsys.readouterr().err
