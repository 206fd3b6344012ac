"""Checks of packages, for the tests of the internals that the server uses."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
REMEDY = "check the internals that are used, then move the bound in pyproject.toml"


def check_bounds(package: str) -> None:
    """Check that pyproject.toml has an upper bound, and that the installed version is tried."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = [Requirement(line) for line in extras["optional-dependencies"]["serving"]]
    (requirement,) = [each for each in found if each.name == package]
    assert any(each.operator in ("<", "<=") for each in requirement.specifier), package
    assert requirement.specifier.contains(version(package)), f"{package}: {REMEDY}"


def importers(module: str) -> set[str]:
    """Return the files of the server that import a module or a name of it."""
    return {
        str(file.relative_to(ROOT))
        for file in (ROOT / "serving").rglob("*.py")
        if any(each == module or each.startswith(f"{module}.") for each in _imported(file))
    }


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
