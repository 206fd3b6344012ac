"""The folder of a run, checked before anything slow is imported or read."""

from __future__ import annotations

from pathlib import Path

from offramp.writing import check_folder
from training.errors import CheckpointError

CHECKPOINT = "checkpoint.safetensors"  # name of the file in the folder of a run


def kept_path(path: Path, epoch: int) -> Path:
    """Return the file of the checkpoint of an epoch that stays, beside the one at `path`."""
    return path.with_name(f"{path.stem}-{epoch:04}{path.suffix}")


def check_place(folder: Path, *, resume: bool) -> None:
    """Check that a run can be written to this folder. Nothing is written.

    Raises:
        CheckpointError: The folder has a run, and it is not to be resumed.
        UnwritableFileError: The folder cannot be written to.
    """
    path = folder / CHECKPOINT
    if path.exists() and not resume:
        raise CheckpointError(f"{path}: the run exists; add --resume or choose another --out")
    check_folder(folder, "--out")
