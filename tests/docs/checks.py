"""The checks of commands, by the program that a command starts.

A command that cannot run in a test has its reason in NOT_RUN or ENDS_EARLY.
"""

from __future__ import annotations

import argparse
import ast
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

from tests.docs.documents import ROOT
from tests.docs.reader import main_of, parse, run

DOCUMENTED = "localhost:8000"
NOT_RUN = {
    "docker": "needs a Docker engine; `make deploy-check` runs the images and Compose with Podman",
    "kubectl": "needs a cluster; `make deploy-check` checks the manifests against its schemas",
    "kustomize": "belongs to kubectl",
    "nvidia-smi": "needs an NVIDIA GPU",
    "sudo": "changes the host",
    "apt-get": "changes the host",
    "cd": "of the shell",
    "cp": "tests/docs/test_models.py runs it",
    "mkdir": "tests/docs/test_models.py runs it",
    "head": "tests/docs/test_models.py runs it",
    "base64": "tests/docs/test_models.py runs it",
    "for": "of the shell; the command in the loop runs once",
    "seq": "of the shell",
    "done": "of the shell",
    "export": "of the shell",
    "chmod": "the modes of files differ on other hosts",
}
# Commands that take minutes or hours: they run until they see that the reader's folder has the run
# or the bundle already. By then every option has been read and checked.
ENDS_EARLY = {
    "train": r"the run exists",
    "export": r"bundles/mine exists",
    "cascade": r"bundles/mine exists",
    "design": r"bundles/mine exists",
    "quantize": r"bundles/(mine|cifar10-msdnet)-int8 exists",
    "recalibrate": r"bundles/mine-2 exists",
    "certify": r"certify no promise",  # too few images
}


@dataclass(frozen=True, slots=True)
class Reader:
    """A folder that has what the documents suppose, and the URL of a server.

    `version` is the one that the server has, if not the first one.
    """

    folder: Path
    url: str
    version: str = "1"

    def here(self, text: str) -> str:
        """Return a text of a document with the address and the version of this server."""
        text = text.replace("?version=1", f"?version={self.version}")
        return text.replace(DOCUMENTED, self.url.removeprefix("http://"))


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


def check_make(words: list[str], reader: Reader) -> None:
    for program, *rest in recipe(words[1:]):
        if program.startswith("python") and rest[0] == "-m" and rest[1] not in OTHERS:
            parse(rest[1], rest[2:])
        if program == "pip":
            check_pip([program, *rest], reader)


def check_pip(words: list[str], _reader: Reader) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for before, word in pairwise(words):
        if before in ("-r", "-c"):
            assert (ROOT / word).is_file(), word
        elif extras := re.fullmatch(r"\.\[(.*)\]", word):
            assert set(extras[1].split(",")) <= set(project["optional-dependencies"]), word


def check_python(words: list[str], _reader: Reader) -> None:
    assert words[1] == "-m", words
    if words[2] == "pytest":
        assert all((ROOT / word).is_file() for word in words[3:] if word.endswith(".py"))
    elif words[2] not in OTHERS:
        parse(words[2], words[3:])


def check_torchrun(words: list[str], reader: Reader) -> None:
    from torch.distributed.run import get_args_parser

    read = get_args_parser().parse_args(words[1:])
    assert (read.module, read.training_script) == (True, "training")
    if read.training_script_args:
        run_early("train", lambda: main_of("training")(read.training_script_args), reader)


def check_serve_of_ray(words: list[str], _reader: Reader) -> None:
    """The target and its arguments are those of the file; Ray has an environment of its own."""
    path, given = words[2], {word.partition("=")[0] for word in words[3:]}
    if words[1] == "deploy":
        (application,) = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))["applications"]
        path, given = application["import_path"], set(application["args"])
    target, _, name = path.partition(":")
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
    assert given <= fields


def check_curl(words: list[str], reader: Reader) -> httpx.Response:
    """Send the same request."""
    options = argparse.ArgumentParser()
    for flag in ("-s", "-N"):
        options.add_argument(flag, action="store_true")
    options.add_argument("-o")
    options.add_argument("-H", action="append", default=[])
    options.add_argument("--data-binary", required=True)
    options.add_argument("url")
    given = options.parse_args([word.replace("$budget", "low") for word in words[1:]])
    body = (reader.folder / given.data_binary.removeprefix("@")).read_bytes()
    headers = dict(each.split(": ", 1) for each in given.H)
    url = f"http://{reader.here(given.url)}"
    answer = httpx.post(url, content=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer


def check_offramp(words: list[str], reader: Reader) -> None:
    name, *rest = words[1:]
    if name in ("serve", "models"):  # the first `serve` is the reader's server, which has one model
        parse("offramp", [name, *rest])
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


def check_not_run(words: list[str], _reader: Reader) -> None:
    """What it names in this project is there, or a file of secrets that the reader makes."""
    named = [word for word in words[1:] if word.startswith("deploy/")]
    missing = [word for word in named if not (ROOT / word).exists()]
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert {f"/{word}" for word in missing} <= set(ignored), missing


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
