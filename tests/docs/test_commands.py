"""Every command and snippet of the documents runs here, or its real option reader accepts it.

A command that cannot run in a test has its reason in NOT_RUN or ENDS_EARLY. A command of any
other kind fails, and so does a block in a language that no test runs.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import yaml
from offramp.cli import COMMANDS

from tests.docs.documents import ROOT, Block, blocks, commands, inline_commands
from tests.docs.reader import furnish, main_of, parse, run, server

LANGUAGES = {"console", "python", "yaml", "text"}  # text: pictures, nothing to run
DOCUMENTED = "localhost:8000"
NOT_RUN = {
    "docker": "needs a Docker engine; `make deploy-check` runs the images and Compose with Podman",
    "kubectl": "needs a cluster; `make deploy-check` checks the manifests against its schemas",
    "kustomize": "belongs to kubectl",
    "nvidia-smi": "needs an NVIDIA GPU",
    "sudo": "changes the host",
    "cd": "of the shell",
    "for": "of the shell; the command in the loop runs once",
    "seq": "of the shell",
    "done": "of the shell",
}
# Commands that take minutes or hours: they run until they see that the reader's folder has too few
# images, or the bundle already. By then every option has been read and checked.
ENDS_EARLY = {
    "train": r"held.out",
    "export": r"bundles/mine exists",
    "quantize": r"bundles/mine-int8 exists",
    "recalibrate": r"bundles/mine-2 exists",
}


@dataclass(frozen=True, slots=True)
class Reader:
    """A folder that has what the documents suppose, and the URL of a server."""

    folder: Path
    url: str

    def here(self, text: str) -> str:
        """Return a text of a document with the address of this server."""
        return text.replace(DOCUMENTED, self.url.removeprefix("http://"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The server is the first that the documents start, on another port."""
    folder = tmp_path_factory.mktemp("reader")
    furnish(folder)
    with server(["-m", "offramp", *serve_commands()[0]], folder) as url:
        assert httpx.get(f"{url}/health/ready", timeout=30).status_code == 200
        yield Reader(folder, url)


def serve_commands() -> list[list[str]]:
    """Return the words of each `offramp serve` in a console block."""
    simple = [words for command in commands() for words in simple_commands(command)]
    return [words[1:] for words in simple if words[:2] == ["offramp", "serve"]]


def simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each simple command of a line, the program by its last name."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for token in [*lexer, ";"]:
        if not re.fullmatch(r"[();&|]+", token):
            words.append(token)
            continue
        while words and (words[0] == "do" or re.fullmatch(r"[A-Z_]+=.*", words[0])):
            del words[0]
        if words:
            yield [Path(words[0]).name, *words[1:]]
        words = []


def recipe(goals: list[str]) -> list[list[str]]:
    """Return the commands that make would run for these goals."""
    made = subprocess.run(
        ["make", "--dry-run", "--always-make", *goals],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return [words for line in made.stdout.splitlines() for words in simple_commands(line)]


def check_make(words: list[str], _: Reader) -> None:
    for program, *rest in recipe(words[1:]):
        if program.startswith("python") and rest[0] == "-m" and rest[1] not in OTHERS:
            parse(rest[1], rest[2:])
        if program == "pip":
            check_pip([program, *rest], _)


def check_pip(words: list[str], _: Reader) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for before, word in pairwise(words):
        if before in ("-r", "-c"):
            assert (ROOT / word).is_file(), word
        elif extras := re.fullmatch(r"\.\[(.*)\]", word):
            assert set(extras[1].split(",")) <= set(project["optional-dependencies"]), word


def check_python(words: list[str], _: Reader) -> None:
    assert words[1] == "-m", words
    if words[2] == "pytest":
        assert all((ROOT / word).is_file() for word in words[3:] if word.endswith(".py"))
    elif words[2] not in OTHERS:
        parse(words[2], words[3:])


def check_torchrun(words: list[str], reader: Reader) -> None:
    from torch.distributed.run import get_args_parser

    read = get_args_parser().parse_args(words[1:])
    assert (read.module, read.training_script) == (True, "training")
    run_early("train", lambda: main_of("training")(read.training_script_args), reader)


def check_serve_of_ray(words: list[str], _: Reader) -> None:
    """The target and its arguments are those of the file; Ray has an environment of its own."""
    target, _, name = words[2].partition(":")
    tree = ast.parse((ROOT / f"{target.replace('.', '/')}.py").read_text(encoding="utf-8"))
    (arguments,) = [
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Arguments"
    ]
    fields = {
        node.target.id
        for node in arguments.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {word.partition("=")[0] for word in words[3:]} <= fields


def check_curl(words: list[str], reader: Reader) -> httpx.Response:
    """Send the same request."""
    options = argparse.ArgumentParser()
    options.add_argument("-s", action="store_true")
    options.add_argument("-o")
    options.add_argument("--data-binary", required=True)
    options.add_argument("url")
    given = options.parse_args([word.replace("$budget", "low") for word in words[1:]])
    body = (reader.folder / given.data_binary.removeprefix("@")).read_bytes()
    answer = httpx.post(f"http://{reader.here(given.url)}", content=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def check_offramp(words: list[str], reader: Reader) -> None:
    name, *rest = words[1:]
    if name == "serve":
        parse("offramp", [name, *rest])  # the first of them is the reader's server
    elif name in ENDS_EARLY:
        run_early(name, lambda: main_of("offramp")([name, *rest]), reader)
    else:
        done = run(["-m", "offramp", name, *map(reader.here, rest)], reader.folder)
        assert done.returncode == 0, done.stderr


def run_early(name: str, main: Callable[[], int], reader: Reader) -> None:
    """Run a long command until it refuses the reader's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(reader.folder)
        assert main() == 1, name


def check_not_run(words: list[str], _: Reader) -> None:
    """What it names in this project is there."""
    named = [word for word in words[1:] if word.startswith("deploy/")]
    assert all((ROOT / word).exists() for word in named), named


OTHERS = {"venv", "pip", "pytest", "deploy.check.ray"}  # modules that are not ours, or Ray's
CHECKS: dict[str, Callable[[list[str], Reader], object]] = {
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
    "torchrun": check_torchrun,
    "serve": check_serve_of_ray,
    "curl": check_curl,
    "offramp": check_offramp,
    **dict.fromkeys(NOT_RUN, check_not_run),
}


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
        assert words[0] in {"--help", *(command.name for command in COMMANDS)}
    elif program == "offramp":
        parse("offramp", words)
    elif program == "torchrun":
        assert words
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
        assert done.stdout == "cat 3\n"


@pytest.mark.parametrize("block", named("yaml"))
def test_yaml_is_yaml(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


def test_every_block_has_a_test() -> None:
    assert {block.name for block in blocks() if block.language not in LANGUAGES} == set()


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
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in done.stdout.splitlines()} == targets
