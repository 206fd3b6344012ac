"""The command on two real servers of this checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.serving.revisions.__main__ import arguments_of, compare_responses
from benchmarks.serving.revisions.checkouts import server_of
from benchmarks.serving.servers.images import load_images
from benchmarks.serving.servers.subject import SHIPPED
from offramp.bundle.manifest import read_manifest


def test_two_servers_of_one_checkout_give_equal_responses(tmp_path: Path) -> None:
    options = ("--old=.", "--new=.", "--requests=60", f"--out={tmp_path}")
    arguments = arguments_of([*options])
    sent = load_images(arguments.data, read_manifest(arguments.bundle), arguments.split)
    comparisons = compare_responses(arguments, sent)
    assert len(comparisons) == 60
    assert [line for each in comparisons for line in each.differences] == []
    assert {each.status for each in comparisons} >= {200, 400, 415, 422}


def test_a_server_runs_in_its_checkout_with_its_packages() -> None:
    server = server_of("old", Path(), SHIPPED, ("--threads=1",), {"low": "/classify"}, "key")
    assert server.folder == Path.cwd()
    assert server.environment["PYTHONPATH"] == str(Path.cwd())
    assert server.headers == {"Authorization": "Bearer key"}
    assert server.command[-1] == "--threads=1"


def test_a_folder_without_the_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no package `serving`"):
        server_of("old", tmp_path, SHIPPED, (), {})
