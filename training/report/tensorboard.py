"""The log of a run for TensorBoard: `tensorboard --logdir runs`."""

from __future__ import annotations

import os
import socket
import time
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboard.compat.proto.event_pb2 import (  # type: ignore[import-untyped]
    Event,
    SessionLog,
)
from tensorboard.summary.writer.record_writer import (  # type: ignore[import-untyped]
    RecordWriter,
)
from torch import Tensor
from torch.utils.tensorboard.summary import scalar

from offramp.writing import writing
from training.fit.checkpoint import Epoch

KEPT = 50  # losses kept on the device before they are fetched, because a fetch synchronises


class EventLog:
    """A log of loss and learning rate for every step, and of accuracies and speed for every epoch.

    The loss of a step is that of this process's shard of the batch. The loss of an epoch is that
    of all processes.

    The events of a resumed run replace those that were written after its checkpoint.

    Args:
        folder: Folder of the event files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: _EventFile | None = None
        self._steps = 0
        self._kept: list[tuple[int, Tensor, float]] = []

    def step(self, number: int, loss: Tensor, lr: float) -> None:
        """Log a step: its number from the start of the run, its loss [], its learning rate.

        Raises:
            UnwritableFileError: The file cannot be written. It has the events before.
        """
        if self._file is None:
            self._file = _EventFile(self._folder, number)
        self._steps = number
        self._kept.append((number, loss, lr))
        if len(self._kept) == KEPT:
            self._write_steps(self._file)

    def epoch(self, epoch: Epoch) -> None:
        """Log an epoch, after its steps.

        Raises:
            UnwritableFileError: The file cannot be written. It has the events before.
        """
        assert self._file is not None
        self._write_steps(self._file)
        values = {
            "epoch/loss": epoch.loss,
            "epoch/images_per_second": epoch.images_per_second,
            **{f"accuracy/exit_{k}": a for k, a in enumerate(epoch.accuracies, 1)},
        }
        for name, value in values.items():
            self._file.add(name, value, self._steps)
        self._file.flush()

    def _write_steps(self, file: _EventFile) -> None:
        kept, self._kept = self._kept, []
        for number, loss, lr in kept:
            file.add("step/loss", float(loss), number)
            file.add("step/lr", lr, number)
        file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._write_steps(self._file)


class _EventFile:
    """A file of events, to which whole events are appended.

    `torch.utils.tensorboard.SummaryWriter` writes in a thread of its own, where a full disk is a
    traceback.

    Args:
        folder: Folder of the file.
        first: First step. Events of other files from this step on are replaced.
    """

    def __init__(self, folder: Path, first: int) -> None:
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}"
        for number in range(1000):
            self._path = folder / f"{name}.{number}"
            if not self._path.exists():
                break
        self._buffer = BytesIO()
        self._records = RecordWriter(self._buffer)
        self._add(Event(wall_time=now, step=first, file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._add(Event(wall_time=now, step=first, session_log=start))

    def add(self, name: str, value: float, step: int) -> None:
        """Add a value to the buffer."""
        self._add(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Append the buffer to the file, or nothing.

        Raises:
            UnwritableFileError: The file cannot be written.
        """
        events = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        with writing(self._path), self._path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                while events:
                    events = events[file.write(events) :]
            except OSError:
                file.truncate(size)
                raise

    def _add(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
