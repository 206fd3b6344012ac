"""The commands of docs/models.md run in their order, with a small network in the bundles' place."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.checks import DOCUMENTED, Reader, check_curl
from tests.docs.documents import ROOT, blocks
from tests.docs.reader import environment, run, server
from tests.serving.small_bundle import write_bundle

BUNDLES = ("clothing-lite0", "clothing-lite0-int8", "cifar10-msdnet")
COMMANDS = [
    command
    for block in blocks()
    if block.document == "docs/models.md" and block.language == "console"
    for command, _ in block.entries()
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    first = write_bundle(tmp_path / "deploy" / "bundles" / BUNDLES[0])
    for name in BUNDLES[1:]:
        shutil.copytree(first, first.parent / name)
    return tmp_path


def test_they_run(folder: Path) -> None:
    (serve,) = [each for each in COMMANDS if each.startswith("offramp serve")]
    before, after = COMMANDS[: COMMANDS.index(serve)], COMMANDS[COMMANDS.index(serve) + 1 :]
    for command in before:
        shell(command, folder)
    with server(["-m", *serve.split()], folder) as url:
        reader, listed = Reader(folder, url), ""
        for command in after:
            program, *words = command.replace("'", "").split()
            if program == "curl":
                check_curl([program, *words], reader)
            elif program == "offramp":
                done = run(["-m", program, *words, "--url", url], folder)
                assert done.returncode == 0, done.stderr
                listed = done.stdout or listed
            else:
                assert DOCUMENTED not in command
                shell(command, folder)
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [
        ["cifar10-msdnet", "1", "READY"],
        ["clothing-lite0", "1", "READY"],
        ["clothing-lite0", "2", "READY"],
    ]


def shell(command: str, folder: Path) -> None:
    """Run a command of the documents in a shell."""
    subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment(), check=True, capture_output=True
    )
