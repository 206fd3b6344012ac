"""The log of a run for TensorBoard: `tensorboard --logdir runs`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.fit.checkpoint import Epoch

KEPT = 50  # losses kept on the device before they are fetched, because a fetch synchronises


class EventLog:
    """A log of loss and learning rate for every step, and of accuracies and speed for every epoch.

    The loss of a step is that of this process's shard of the batch. The loss of an epoch is that
    of all processes.

    The events of a resumed run replace those that were written after its checkpoint.

    Args:
        folder: folder of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._steps = 0
        self._kept: list[tuple[int, Tensor, float]] = []

    def step(self, number: int, loss: Tensor, lr: float) -> None:
        """Log a step: its number from the start of the run, its loss [], its learning rate."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=number)
        self._steps = number
        self._kept.append((number, loss, lr))
        if len(self._kept) == KEPT:
            self._write_steps(self._writer)

    def epoch(self, epoch: Epoch) -> None:
        """Log an epoch, after its steps."""
        assert self._writer is not None
        self._write_steps(self._writer)
        values = {
            "epoch/loss": epoch.loss,
            "epoch/images_per_second": epoch.images_per_second,
            **{f"accuracy/exit_{k}": a for k, a in enumerate(epoch.accuracies, 1)},
        }
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._steps)
        self._writer.flush()

    def _write_steps(self, writer: SummaryWriter) -> None:
        for number, loss, lr in self._kept:
            writer.add_scalar("step/loss", float(loss), number)
            writer.add_scalar("step/lr", lr, number)
        self._kept.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._write_steps(self._writer)
            self._writer.close()
