"""The command `offramp`, run as a user runs it."""

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from offramp import __version__
from offramp.cli import COMMANDS, Command, main, run
from tests.timing import least_seconds

CPU_SECONDS = 0.5
WRONG_OPTIONS = [
    ["serve", "--prot", "80"],
    ["train", "cifar-compact", "--epohcs", "3"],
    ["export", "--chekpoint", "x"],
    ["recalibrate", "--bundel", "x"],
    ["quantize", "--precison", "int8"],
]
SLOW = ["torch", "onnxruntime", "onnx", "fastapi", "datasets", "matplotlib", "numpy"]
ROOT = Path(__file__).parents[2]
BUNDLE = str(ROOT / "deploy" / "bundles" / "cifar10-msdnet")
A_FILE = f"{BUNDLE}/manifest.json"  # its content is not read before the import of torch


def offramp(
    *arguments: str, cache: Path | None = None, python: Sequence[str] = ("-m", "offramp")
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    if cache:
        environment["PYTHONPYCACHEPREFIX"] = str(cache)
    command = [sys.executable, *python, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )


def without(*modules: str) -> tuple[str, str]:
    """Python's arguments that run the command as if these modules were not installed."""
    blocked = f"sys.modules.update(dict.fromkeys({modules!r}))"
    return (
        "-c",
        f"import sys; {blocked}; from offramp.cli import main; sys.exit(main(sys.argv[1:]))",
    )


@pytest.fixture(scope="module")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of compiled modules, such as an installed package has."""
    folder = tmp_path_factory.mktemp("bytecode")
    for arguments in (["--help"], *WRONG_OPTIONS):
        offramp(*arguments, cache=folder)
    return folder


@pytest.mark.parametrize("arguments", [["--help"], *WRONG_OPTIONS], ids=" ".join)
def test_help_and_a_wrong_option_take_less_than_half_a_second(
    bytecode: Path, arguments: list[str]
) -> None:
    def run_once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = offramp(*arguments, cache=bytecode)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.returncode == (0 if arguments == ["--help"] else 2), ended.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert least_seconds(run_once, CPU_SECONDS) < CPU_SECONDS


def test_help_lists_every_command_and_imports_nothing_slow() -> None:
    shown = offramp("--help", python=without(*SLOW, "pydantic")).stdout
    for command in COMMANDS:
        assert f"  {command.name} " in shown
        assert command.summary in shown


@pytest.mark.parametrize("arguments", WRONG_OPTIONS, ids=" ".join)
def test_a_wrong_option_names_the_nearest_and_imports_nothing_slow(arguments: list[str]) -> None:
    ended = offramp(*arguments, python=without(*SLOW))
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: --")
    assert "; did you mean --" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "hint"),
    [("trian", "did you mean train?"), ("xyz", "offramp --help lists the commands")],
)
def test_an_unknown_command_names_the_nearest(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "cifar-compact"]) == 2
    assert capsys.readouterr().err == f"error: {word}: no such command; {hint}\n"


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: offramp COMMAND ...")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of an image of the server, which are copied and not installed."""
    folder = tmp_path_factory.mktemp("app")
    for package in ("offramp", "serving"):
        (folder / package).symlink_to(ROOT / package)
    return folder


def in_image(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with Python's own library and this folder alone."""
    command = [sys.executable, "-S", "-m", "offramp", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_version_is_that_of_the_code(image: Path) -> None:
    assert in_image(image, "--version").stdout == f"offramp {__version__}\n"


@pytest.mark.parametrize("command", ["train", "certify"])
def test_a_command_of_a_package_that_an_image_lacks_is_one_line(image: Path, command: str) -> None:
    ended = in_image(image, command)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"error: {command}: the package ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("torch", ["train", "cifar-compact", "--out", "x"], "training"),
        ("torch", ["train", "cifar-compact", "--help"], "training"),
        ("torch", ["export", "--checkpoint", A_FILE, "--out", "y"], "exporter"),
        ("onnx", ["cascade", A_FILE, A_FILE, "--data=x", "--out=y"], "cascade"),
        ("onnx", ["quantize", f"--bundle={BUNDLE}", "--data=x", "--out=y"], "exporter"),
        ("fastapi", ["serve", "--bundle", "x"], "serving"),
        ("onnxruntime", ["serve", "--bundle", "x"], "serving,cpu"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(
    missing: str, arguments: list[str], extra: str
) -> None:
    ended = offramp(*arguments, python=without(missing))
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.endswith(f"pip install 'offramp[{extra}]'\n")
    assert ended.stderr.count("\n") == 1


def test_serve_needs_no_torch(tmp_path: Path) -> None:
    ended = offramp("serve", "--bundle", str(tmp_path / "no"), python=without("torch", "datasets"))
    assert ended.returncode == 1
    assert "no/manifest.json: cannot be read" in ended.stderr


def test_a_missing_module_of_ours_is_a_bug_and_not_a_missing_extra() -> None:
    command = Command("wrong", "offramp.nowhere:main", "serving", "a command without a module")
    with pytest.raises(ModuleNotFoundError, match=r"offramp\.nowhere"):
        run(command, [])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_module_of_every_command_exists(command: Command) -> None:
    assert find_spec(command.entry.partition(":")[0])
