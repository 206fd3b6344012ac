"""Servers of other checkouts of this project, with the interpreter of this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.serving.servers.processes import PORT, Server

FIND = "import importlib.util as u; print(u.find_spec('serving').origin)"


def environment(checkout: Path) -> dict[str, str]:
    """Return the variables with which an interpreter imports the packages of a checkout."""
    return {"PYTHONPATH": str(checkout)}


def check_packages(checkout: Path) -> None:
    """Check that an interpreter started in a checkout imports its `serving`.

    Raises:
        ValueError: The folder has no package `serving`, or another one is imported.
    """
    found = subprocess.run(
        [sys.executable, "-c", FIND],
        cwd=checkout,
        env={**os.environ, **environment(checkout)},
        capture_output=True,
        text=True,
        check=False,
    )
    if not Path(found.stdout.strip()).is_relative_to(checkout):
        raise ValueError(
            f"{checkout} has no package `serving`: {found.stdout}{found.stderr[-300:]}"
        )


def server_of(
    name: str,
    checkout: Path,
    bundle: Path,
    options: tuple[str, ...],
    paths: Mapping[str, str],
    api_key: str | None = None,
) -> Server:
    """Return the server of a checkout.

    Args:
        name: Its name in tables and of its log.
        checkout: Folder of the checkout.
        bundle: Folder of the bundle.
        options: Options of `python -m serving`.
        paths: Path and query of each budget.
        api_key: The key that the server requires, or `None` for no key.

    Raises:
        ValueError: The folder is not a checkout.
    """
    folder = checkout.resolve()
    check_packages(folder)
    command = [sys.executable, "-m", "serving", "--bundle", str(bundle.resolve()), "--port", PORT]
    variables, headers = environment(folder), {}
    if api_key is not None:
        variables["OFFRAMP_API_KEY"] = api_key
        headers["Authorization"] = f"Bearer {api_key}"
    command += ["--log-level", "warning", *options]
    return Server(name, command, paths, variables, headers, folder)
