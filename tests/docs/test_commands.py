"""Every command and snippet of the documents runs here, or its real option reader accepts it.

`checks` has the reason of each command that does not run to its end. A command of any other kind
fails, and so does a block in a language that no test runs.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import chain

import httpx
import pytest
import yaml

from offramp import cli
from tests.docs.checks import CHECKS, ENDS_EARLY, Reader, check_curl, simple_commands
from tests.docs.documents import ROOT, Block, blocks, commands, inline_commands
from tests.docs.reader import furnish, parse, run, server

LANGUAGES = {"console", "python", "yaml", "text"}  # text: pictures, nothing to run
# Blocks in another language, by words of each: the test that runs it, or the command.
RUN_BY = {
    "imagetools": "tests/deploy/test_dockerfile.py",
    "Bearer KEY": "benchmarks/serving/oip/document.py",  # needs the clients' own environment
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The server is the first that the documents start, on another port."""
    folder = tmp_path_factory.mktemp("reader")
    furnish(folder)
    with server(["-m", "offramp", *serve_commands()[0]], folder) as url:
        assert httpx.get(f"{url}/health/ready", timeout=30).status_code == 200
        yield Reader(folder, url, httpx.get(f"{url}/model", timeout=30).json()["version"])


def serve_commands() -> list[list[str]]:
    """Return the words of each `offramp serve` in a console block."""
    simple = [words for command in commands() for words in simple_commands(command)]
    return [words[1:] for words in simple if words[:2] == ["offramp", "serve"]]


@pytest.mark.parametrize("command", commands())
def test_command(command: str, reader: Reader, capfd: pytest.CaptureFixture[str]) -> None:
    for words in simple_commands(command):
        assert words[0] in CHECKS, f"{words[0]}: no test runs it, and NOT_RUN has no reason"
        CHECKS[words[0]](words, reader)
        if words[0] == "offramp" and words[1] in ENDS_EARLY:
            assert re.search(ENDS_EARLY[words[1]], capfd.readouterr().err)


@pytest.mark.parametrize("command", inline_commands())
def test_command_in_the_text_is_accepted(command: str, reader: Reader) -> None:
    program, *words = shlex.split(command.replace(" ...", ""))
    if program == "offramp" and len(words) == 1:
        assert words[0] in {"--help", *(command.name for command in cli.COMMANDS)}
    elif program == "offramp":
        parse("offramp", words)
    else:
        CHECKS[program]([program, *words], reader)


def named(language: str) -> list[object]:
    """Return the blocks of a language as parameters of a test."""
    return [pytest.param(b, id=b.name) for b in blocks() if b.language == language]


@pytest.mark.parametrize("block", named("python"))
def test_python_runs_as_it_stands(block: Block, reader: Reader) -> None:
    done = run(["-W", "error", "-c", reader.here(block.text)], reader.folder)
    assert done.returncode == 0, done.stderr
    if "from offramp import" in block.text:
        assert done.stdout == "shirt 1\n"


@pytest.mark.parametrize("block", named("yaml"))
def test_yaml_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


def test_every_block_has_a_test() -> None:
    others = [block for block in blocks() if block.language not in LANGUAGES]
    run_by = {word: [b.name for b in others if word in b.text] for word in RUN_BY}
    assert all(run_by.values()), run_by
    assert sorted(block.name for block in others) == sorted(chain(*run_by.values()))
    for word, test in RUN_BY.items():
        assert word in (ROOT / test).read_text(encoding="utf-8"), test


def shape(value: object) -> object:
    """Return a value of JSON with types in the place of its numbers and words."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__


def test_documented_answer_is_that_of_the_server(reader: Reader) -> None:
    shown = [
        (command, output)
        for block in blocks()
        for command, output in block.entries()
        if command.startswith("curl") and output.strip()
    ]
    assert shown
    for command, output in shown:
        ((words),) = simple_commands(command)
        answer, documented = check_curl(words, reader).json(), json.loads(output)
        assert shape(answer) == shape(documented)
        for seen, told in zip(answer["answers"], documented["answers"], strict=True):
            same = ("label", "exit", "exits", "flops", "flops_share")
            assert {key: seen[key] for key in same} == {key: told[key] for key in same}
            assert seen["probability"] == pytest.approx(told["probability"], abs=1e-4)


def test_help_of_make_names_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    declared = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert declared
    targets = set(declared[1].replace("\\", "").split()) - {"help"}
    done = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.split()[1] for line in done.stdout.splitlines()} == targets
