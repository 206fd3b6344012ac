"""The loop of a run: an epoch and a checkpoint, until the recipe is finished."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from training.distributed import equal_on_all_processes, rank
from training.errors import CheckpointError
from training.fit.checkpoint import Epoch, load_checkpoint, save_checkpoint
from training.fit.trainer import OnStep, Track, Trainer, ignore_step
from training.output_folder import kept_path


def fit(
    trainer: Trainer,
    path: Path,
    *,
    resume: bool,
    track: Track,
    report: Callable[[Epoch], None],
    on_step: OnStep = ignore_step,
    save_every: int | None = None,
    keep_every: int | None = None,
) -> None:
    """Run a recipe to its end, with a checkpoint at `path` after every epoch.

    Args:
        trainer: Trainer of the run.
        path: File of the checkpoint, the same for all processes. Rank 0 writes it.
        resume: True to continue from the checkpoint if the file exists.
        track: Wrapper of the batches, for a progress bar.
        report: Callback after each epoch.
        on_step: Callback after each step.
        save_every: Number of steps between checkpoints within an epoch. `None`: only after epochs.
        keep_every: Number of epochs between checkpoints that stay (`kept_path`). `None`: none do.

    Raises:
        CheckpointError: With `resume`, the file is damaged, of another recipe, or different among
            processes. Without, the file exists.
        UnwritableFileError: The checkpoint cannot be written. The one before it stays.
    """
    _restore(trainer, path, resume=resume)
    kept = _kept(trainer, path, keep_every)
    if kept and not kept.exists():  # the run was interrupted between its two checkpoints
        _save(trainer, kept)

    while not trainer.done:
        epoch = trainer.run_epoch(track, on_step, partial(_save, trainer, path), save_every)
        _save(trainer, path)
        if kept := _kept(trainer, path, keep_every):
            _save(trainer, kept)
        report(epoch)


def _restore(trainer: Trainer, path: Path, *, resume: bool) -> None:
    """Restore the checkpoint at `path` if the file exists, in all processes or in no process."""
    if path.exists() and not resume:
        raise CheckpointError(f"{path}: the run exists; add --resume or choose another --out")
    if path.exists():
        trainer.restore(load_checkpoint(path))
    if not equal_on_all_processes(trainer.steps_done, trainer.device):
        raise CheckpointError(f"{path}: processes see different files; they must share a folder")


def _save(trainer: Trainer, path: Path) -> None:
    if rank() == 0:
        save_checkpoint(path, trainer.checkpoint())


def _kept(trainer: Trainer, path: Path, keep_every: int | None) -> Path | None:
    """Return the file of the checkpoint that stays, if the state of the run is one that does."""
    done = len(trainer.progress.epochs)
    if trainer.progress.running.steps or not (keep_every and done) or done % keep_every:
        return None
    return kept_path(path, done)
