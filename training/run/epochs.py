"""The epochs of a run, shown and logged by the first process."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from rich.console import Console

from training.data.images import Images
from training.distributed import rank
from training.fit.checkpoint import Epoch, Progress
from training.fit.early_stop import best_epoch
from training.fit.loop import fit
from training.fit.trainer import Trainer
from training.options import RunOptions
from training.output_folder import CHECKPOINT
from training.report.remaining import seconds_left, text_of, track_epoch
from training.report.report import write_report
from training.report.tensorboard import EventLog


def train(trainer: Trainer, options: RunOptions, console: Console) -> None:
    """Run the recipe to its end. The first process shows and logs the progress."""
    fitted = partial(
        fit,
        trainer,
        options.out / CHECKPOINT,
        resume=options.resume,
        save_every=options.save_every,
        keep_every=options.keep_every,
    )
    if rank() > 0:
        fitted(track=lambda batches, _steps: batches, report=lambda _epoch: None)
        return
    reports = _Reports(trainer, options, console)
    with EventLog(options.out) as log:
        fitted(track=reports.track, report=partial(reports.add, log=log), on_step=log.step)
    reports.end()


class _Reports:
    """The reports of finished epochs: on the console, in the log and on the page.

    Args:
        trainer: Trainer of the run.
        options: Options of the run.
        console: Console to print on.
    """

    def __init__(self, trainer: Trainer, options: RunOptions, console: Console) -> None:
        self._trainer = trainer
        self._folder = options.out
        self._console = console
        self._written = False

    def track(self, batches: Iterable[Images], steps: int) -> Iterable[Images]:
        """Show the progress of an epoch of so many steps."""
        return track_epoch(batches, steps, self._trainer.progress, self._console)

    def add(self, epoch: Epoch, log: EventLog) -> None:
        """Report a finished epoch."""
        left = "" if self._trainer.done else text_of(seconds_left(self._trainer.progress))
        line = _epoch_line(epoch, self._trainer.progress)
        self._console.print(f"{line}{left and ', '}{left}")
        log.epoch(epoch)
        self._write()

    def end(self) -> None:
        """Name the exported epoch if it is not the last, and write the page if no epoch did."""
        epochs = self._trainer.progress.epochs
        best = best_epoch(epochs)
        if self._trainer.progress.recipe.patience and best is not epochs[-1]:
            self._console.print(
                f"the weights of epoch {best.number} of {len(epochs)} are exported, with the best "
                "held-out accuracy in the mean over exits"
            )
        if not self._written:  # the run was finished before
            self._write()

    def _write(self) -> None:
        write_report(self._folder, self._trainer.progress)
        self._written = True


def _epoch_line(epoch: Epoch, progress: Progress) -> str:
    accuracy = "agreement with full depth" if progress.recipe.pseudo_labels else "accuracy"
    exits = "  ".join(f"{100 * a:5.2f}" for a in epoch.accuracies)
    return (
        f"epoch {epoch.number:3}/{progress.recipe.epochs}  loss {epoch.loss:7.4f}  "
        f"held-out {accuracy} by exit, %: {exits}  {epoch.seconds:.0f} s"
    )
