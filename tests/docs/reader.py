"""A reader of the documents: a folder to work in, a server, and the commands tried there."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from offramp.bundle.manifest import read_manifest
from tests.docs.documents import ROOT

BUNDLE = ROOT / "deploy" / "bundles" / "cifar10-msdnet"
IMAGES = ROOT / "tests" / "data" / "cifar10-500.parquet"
EACH = 3  # images of each class in `my/images`
STARTED = re.compile(r"at (http://[^\s\"]+)")


def furnish(folder: Path) -> None:
    """Fill a folder with what the documents suppose: a clone, images, runs, a bundle."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("runs", "results"):
            (folder / entry.name).symlink_to(entry)
    labels, taken = read_manifest(BUNDLE).labels, dict[int, int]()
    for row in pyarrow.parquet.read_table(IMAGES).to_pylist():
        label, number = row["label"], taken.get(row["label"], 0)
        if number < EACH:
            taken[label] = number + 1
            file = folder / "my" / "images" / labels[label] / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(row["img"]["bytes"])
    for name in ("my/imagenet", "my/cifar10", "our/images"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(folder / "my" / "images")
    for name in ("mine", "big"):
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "checkpoint.safetensors").touch()
    (folder / "bundles").mkdir()
    (folder / "bundles" / "mine").symlink_to(BUNDLE)
    for name in ("mine-int8", "cifar10-msdnet-int8", "mine-2"):
        (folder / "bundles" / name).mkdir()


def run(words: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run this interpreter with the code of this tree, in a folder."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment() -> dict[str, str]:
    """Return the environment of a command: the code of this tree, one thread, no hub."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


@contextmanager
def server(words: Sequence[str], folder: Path) -> Iterator[str]:
    """Start a server on a free port, yield its URL, and stop it with SIGTERM.

    Args:
        words: Arguments of this interpreter, without a port.
        folder: Folder to work in.
    """
    command = [sys.executable, *words, "--port", "0"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        try:
            for line in process.stderr:
                lines.append(line)
                if started := STARTED.search(line):
                    yield started[1]
                    break
            else:
                pytest.fail(f"{shlex.join(words)} did not start a server: {lines}")
        finally:
            process.terminate()
            process.stderr.read()
    assert process.returncode in (0, -signal.SIGTERM)


class Parsed(Exception):  # noqa: N818 (not an error)
    """The real option reader accepted a command line."""


def parse(module: str, arguments: Sequence[str]) -> None:
    """Let the real option reader of a module read a command line, and stop there.

    Without arguments the module only has to exist.

    Args:
        module: Module with a function `main`, as `python -m` runs it.
        arguments: Words after it.
    """
    if not arguments:
        assert find_spec(module), module
        return
    main = main_of(module)
    read = argparse.ArgumentParser.parse_known_args

    def stop(self: argparse.ArgumentParser, *given: Any, **named: Any) -> Any:
        found = read(self, *given, **named)
        if found[1]:  # the caller reports unknown options
            return found
        raise Parsed

    code: object = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        patch.setattr(sys, "argv", [module, *arguments])
        try:
            code = main(arguments) if main.__code__.co_argcount else main()
        except Parsed:
            return
        except SystemExit as ended:
            code = ended.code
    if code == 0 and "--help" in arguments:
        return
    pytest.fail(f"{module} {shlex.join(arguments)}: refused with {code}")


def main_of(module: str) -> Any:
    """Return the function that `python -m MODULE` calls."""
    if module == "offramp":
        return importlib.import_module("offramp.cli").main
    try:
        return importlib.import_module(f"{module}.__main__").main
    except ModuleNotFoundError as error:
        if error.name not in (module, f"{module}.__main__"):
            raise
        return importlib.import_module(module).main
