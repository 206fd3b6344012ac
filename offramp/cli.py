"""The command `offramp`: `offramp serve`, `offramp train` and others.

A command is a line in COMMANDS. Its module is imported when the command is called, so that
`offramp --help` answers at once, and `offramp serve` needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from offramp import __version__
from offramp.command_line.exit_codes import REFUSED, USAGE, missing_extra


@dataclass(frozen=True, slots=True)
class Command:
    """A command of `offramp`.

    Attributes:
        name: Word after `offramp`.
        entry: "module:function". The function takes the words after the name and returns the
            exit code.
        extra: Extra of this package that the command needs.
        summary: Line of `offramp --help`.
    """

    name: str
    entry: str
    extra: str
    summary: str

    def load(self) -> Callable[[Sequence[str]], int]:
        """Import the module of the command, and return its function."""
        module, _, function = self.entry.partition(":")
        main: Callable[[Sequence[str]], int] = getattr(import_module(module), function)
        return main


COMMANDS = (
    Command("serve", "serving.__main__:main", "serving", "serve a bundle or several models"),
    Command(
        "classify",
        "offramp.commands.classify:main",
        "serving",
        "classify images, in this process or by a server",
    ),
    Command(
        "evaluate",
        "offramp.commands.evaluate:main",
        "serving",
        "measure a bundle on labelled images, against its manifest",
    ),
    Command(
        "bench",
        "offramp.commands.bench:main",
        "serving",
        "measure throughput and latency of a server, also of another one",
    ),
    Command(
        "pull", "offramp.commands.hub:pull", "serving", "copy a bundle from the Hugging Face hub"
    ),
    Command(
        "push", "offramp.commands.hub:push", "serving", "copy a bundle to the Hugging Face hub"
    ),
    Command(
        "models",
        "offramp.commands.models:main",
        "serving",
        "list, load and unload the models of a server",
    ),
    Command("train", "training.__main__:main", "training", "train a multi-exit network"),
    Command("export", "exporter.__main__:export", "exporter", "turn a checkpoint into a bundle"),
    Command(
        "cascade",
        "exporter.cascade.__main__:main",
        "cascade",
        "make a bundle of two or more ONNX classifiers",
    ),
    Command(
        "design",
        "exporter.design.__main__:main",
        "cascade",
        "propose the cheapest chain of networks, measured here",
    ),
    Command(
        "quantize",
        "exporter.quantize.__main__:main",
        "exporter",
        "convert a bundle to 8-bit integers or 16-bit floats",
    ),
    Command(
        "certify",
        "exporter.certify.__main__:main",
        "exporter",
        "promise how often early answers agree with full depth",
    ),
    Command(
        "recalibrate",
        "exporter.__main__:recalibrate",
        "exporter",
        "solve temperatures and budgets of a bundle on other images",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code: 0, 1 (refused), 2 (usage) or 130 (Ctrl-C)."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0
    if name == "--version":
        sys.stdout.write(f"offramp {__version__}\n")  # of the code: images have no metadata of it
        return 0
    commands = {command.name: command for command in COMMANDS}
    if name not in commands:
        near = get_close_matches(name, commands, n=1)
        hint = f"did you mean {near[0]}?" if near else "offramp --help lists the commands"
        sys.stderr.write(f"error: {name}: no such command; {hint}\n")
        return USAGE
    return run(commands[name], rest)


def run(command: Command, arguments: Sequence[str]) -> int:
    """Run one command, and return its exit code."""
    package = command.entry.partition(".")[0]
    try:
        return command.load()(arguments)
    except ModuleNotFoundError as error:
        if error.name == package:  # as in images of the server, which have two packages of ours
            sys.stderr.write(
                f"error: {command.name}: the package {package} is not here; install all of "
                f"Offramp: pip install 'offramp[{command.extra}]'\n"
            )
        else:
            sys.stderr.write(f"error: {missing_extra(error, command.extra)}\n")
        return REFUSED


def usage() -> str:
    """Return the text of `offramp --help`."""
    width = max(len(command.name) for command in COMMANDS)
    lines = [f"  {command.name:{width}}  {command.summary}" for command in COMMANDS]
    return "\n".join(
        [
            "usage: offramp COMMAND ...",
            "",
            "Early-exit inference: train multi-exit networks, export them as bundles, serve these.",
            "",
            "commands:",
            *lines,
            "",
            "offramp COMMAND --help describes the options of a command.",
            "offramp --version prints the version.",
            "",
        ]
    )
