"""Packages that the Dockerfiles copy into the images."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"offramp", "serving", "training", "exporter"}
LOADED = """\
import sys
import serving.app
for name in sorted({module.split(".")[0] for module in sys.modules}):
    print(name, getattr(sys.modules[name], "__file__", None))
"""


def copied(dockerfile: str) -> set[str]:
    """Return the packages of this repository that a Dockerfile copies."""
    text = (ROOT / "deploy" / dockerfile).read_text(encoding="utf-8")
    return set(re.findall(r"^COPY (\w+) ", text, re.MULTILINE)) & PACKAGES


def test_the_server_starts_with_the_copied_packages_alone(tmp_path: Path) -> None:
    for package in copied("Dockerfile"):
        shutil.copytree(ROOT / package, tmp_path / package)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", LOADED],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = dict(line.split(" ", 1) for line in ran.stdout.splitlines())
    assert loaded.keys() & (PACKAGES | {"torch"}) == {"offramp", "serving"}
    assert all(Path(loaded[name]).is_relative_to(tmp_path) for name in ("offramp", "serving"))


def test_the_training_image_has_all_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in included} == PACKAGES
    assert copied("Dockerfile.training") == PACKAGES
