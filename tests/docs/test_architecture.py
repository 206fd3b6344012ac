"""ARCHITECTURE.md is short, names files that exist, and counts them as they are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.docs.documents import ROOT, paths_in

TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MOST_WORDS = 600
PACKAGES = ("offramp", "training", "exporter", "serving")
# For each row of the table "To add": an existing example, and a word that every file names which
# had to be edited for it.
EXAMPLES = {
    "backbone": ("vit", r"(?<!-)\bvit\b|\bViTConfig\b"),
    "confidence": ("confidence", r"\bnegentropy\b"),
    "objective": ("equilibrium", r"\bEquilibrium\b|\"equilibrium\""),
    "exit policy": ("policy", r"^class Policy\b"),
    "endpoint": ("model", r"\bModelDescription\b"),
    "metric": ("reject_answers", r"reject_answers|\.rejection\("),
    "setting": ("degrade_above_ms", r"\bdegrade_above_ms\b"),
    "runtime": ("cuda/runtime", r"\b(Cuda|Device)Runtime\b|\"cuda\": 64"),
    "command": ("evaluate", r"offramp\.commands\.evaluate|\"offramp evaluate\""),
}
ROW = re.compile(r"^\| ([a-z ]+) \((\d)(?: files)?\) \| (.*) \| (.*) \|$", re.MULTILINE)
ROWS = {match[1]: match for match in ROW.finditer(TEXT)}


def test_it_is_read_in_three_minutes() -> None:
    assert len(TEXT.split()) <= MOST_WORDS


@pytest.mark.parametrize("path", [path for path in paths_in(TEXT) if "NAME" not in path])
def test_path_exists(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "serving" / path).exists()


def test_every_row_has_an_example() -> None:
    assert ROWS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("row", EXAMPLES)
def test_number_of_files_to_edit_is_true(row: str) -> None:
    name, word = EXAMPLES[row]
    edited = {path.replace("NAME", name) for path in paths_in(ROWS[row][3])}
    naming = {
        str(path.relative_to(ROOT))
        for path in sources()
        if re.search(word, path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    unnamed = len(re.findall(r"the file that uses it", ROWS[row][3]))
    assert len(edited) + unnamed == int(ROWS[row][2])
    assert edited <= naming
    assert len(naming) == int(ROWS[row][2])


def sources() -> list[Path]:
    """Return the files that a new part of the project is edited into."""
    code = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [*code, ROOT / "deploy" / "README.md"]


@pytest.mark.parametrize("row", EXAMPLES)
def test_row_names_its_test(row: str) -> None:
    (path,) = paths_in(ROWS[row][4])
    assert path.startswith("tests/")


def test_every_room_of_serving_is_described() -> None:
    rooms = {path.parent.name for path in (ROOT / "serving").glob("*/__init__.py")}
    described = set(re.findall(r"^- `([a-z]+)/`", TEXT, re.MULTILINE))
    assert described == rooms


@pytest.mark.parametrize("package", ["serving", "training", "exporter"])
def test_layers_are_those_of_the_linter(package: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [
        each
        for each in project["tool"]["importlinter"]["contracts"]
        if each.get("containers") == [package]
    ]
    layers = [set(layer.split(" | ")) for layer in contract["layers"]]
    (drawn,) = re.findall(rf"^{package}: +(.*(?:\n +>.*)*)$", TEXT, re.MULTILINE)
    assert [set(layer.split(" | ")) for layer in re.split(r"\s+> ", drawn)] == layers
