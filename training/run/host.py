"""The device of a run, and the commit of its code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

from training.distributed import local_rank
from training.errors import RecipeError


def commit() -> str:
    """Return the commit of the working tree, with `+` if files changed, or 'unknown'."""
    try:
        return _git("rev-parse", "HEAD") + ("+" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(  # noqa: S603
        ["git", *arguments],  # noqa: S607
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def device_of(name: str) -> torch.device:
    """Return the device of that name. With several GPUs, it is the one of this process.

    Raises:
        RecipeError: It cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank()}"
    try:
        device = torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise RecipeError(f"--device: {name} cannot be used here: {error}") from error
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
