"""`offramp models` against a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from offramp.cli import main
from tests.serving.models.folders import add_version, damage
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import write_bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    add_version(folder, write_bundle(folder / "Bundle"), "cats", "1")
    (folder / "key").write_text("secret\n")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with serving(None, models=folder, admin_key_file=folder / "key", api_key="mine") as running:
        yield running


@pytest.fixture
def options(server: Running, folder: Path) -> list[str]:
    return ["--url", server.url, "--admin-key-file", str(folder / "key")]


def test_models_are_loaded_listed_and_unloaded(
    options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_version(folder, folder / "Bundle", "cats", "2")
    damage(add_version(folder, folder / "Bundle", "cats", "3"))
    assert main(["models", "load", "cats", "--version", "2", *options]) == 0
    assert main(["models", "load", "cats", *options]) == 1
    assert "error: load cats failed, and what served before still does" in capsys.readouterr().err
    assert main(["models", "list", *options]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines] == [
        ["MODEL", "VERSION", "STATE"],
        ["cats", "1", "UNAVAILABLE"],
        ["cats", "2", "READY"],
        ["cats", "3", "UNAVAILABLE"],
    ]
    for tried, says in (
        ("--shadow-share=50%", "a shadow of 0.5 of the requests"),
        ("--share=.25", "a canary for 0.25 of the calls"),
        ("--share=5%", "a canary for 0.05 of the calls"),
    ):
        assert main(["models", "load", "cats", "--version=1", tried, *options]) == 0
        assert main(["models", "list", *options]) == 0
        assert says in capsys.readouterr().out
    assert main(["models", "unload", "cats", *options]) == 0
    assert main(["models", "unload", "cats", *options]) == 1
    assert main(["models", "load", "cats", "--version=1", *options]) == 0


def test_the_key_is_needed(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "unload", "cats", "--url", server.url]) == 1
    assert "key is missing or wrong" in capsys.readouterr().err
    assert main(["models", "list", "--url", server.url, "--api-key", "mine"]) == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--help"], 0, "usage: offramp models"),
        (["move"], 2, "no such action"),
        (["load"], 2, "NAME"),
        (["list", "--url", "ftp://x"], 2, "no http"),
        (["list", "--url", "http://127.0.0.1:1"], 1, "refused"),
        (["list", "--url", "http://127.0.0.1:x"], 2, "nonnumeric port"),
        (["list", "--url", "http://["], 2, "Invalid IPv6 URL"),
        (["list", "--api-key", "s\u00e9cret"], 2, "the API key has"),
        (["load", "cats", "--admin-key-file", "none"], 2, "none"),
    ],
)
def test_usage(words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", *words]) == code
    written = capsys.readouterr()
    assert says in written.out + written.err


def test_a_name_that_a_path_cannot_hold_is_sent_encoded(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "load", "no such/model", *options]) == 1
    assert "no such/model" in capsys.readouterr().err


def test_what_speaks_no_http_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        url = f"http://127.0.0.1:{other.getsockname()[1]}"

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert main(["models", "list", "--url", url]) == 1
        thread.join()
    assert f"{url}: not the response of a server of models" in capsys.readouterr().err
