"""The audits of all promises: one sequence for each, in memory that all workers map.

A promise has a ladder of operating points. The first is its own, the others are safer. Its answers
come from one of them, its position. If the sequence of this point shows that the promise is broken,
the position moves to the next point, with a new sequence, or stays and is marked as broken.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence, Result
from serving.observe.mapped_memory import WorkerLock, mapped_memory

State = Literal["unproven", "held", "broken", "safer", "full"]
STATES: tuple[State, ...] = (
    "unproven",  # the upper bound is above epsilon
    "held",  # the upper bound is at most epsilon
    "broken",  # the lower bound passed epsilon, and the same point answers
    "safer",  # a safer certified point answers instead
    "full",  # full depth answers instead
)
FULL_DEPTH = "full"
CELL_BYTES = 8
LOADED, REVISION, HEADER = 0, 1, 2  # cells before those of the promises
POINT, TRIALS, LOSSES, UNKNOWN, FIRST_MARK = 0, 1, 2, 3, 4  # cells of a promise
CELLS = FIRST_MARK + MARKS


@dataclass(frozen=True, slots=True)
class AuditedPromise:
    """A promise, and how it is judged.

    Attributes:
        label: Its label in the metrics.
        epsilon: Largest probability of a loss.
        alpha: Probability that a true promise is found broken.
        ladder: Names of its operating points: its own level, then safer ones, then perhaps `full`.
        judged: A disagreement is a loss. If not, audits can support the promise and not break it.
    """

    label: str
    epsilon: float
    alpha: float
    ladder: tuple[str, ...]
    judged: bool = True


class Position(NamedTuple):
    """The place of a promise on its ladder, from 0, and whether it was found broken there."""

    point: int
    broken: bool


class Kept(NamedTuple):
    """The record of one promise that survives a restart.

    Attributes:
        point: Name of the operating point that answers.
        broken: The promise was found broken at this point.
        sequence: The sequence of this point.
    """

    point: str
    broken: bool
    sequence: ConfidenceSequence


class Ledger:
    """The position and the sequence of each promise.

    Args:
        promises: The promises. All workers have the same ones.
        file: File that all workers map. `None` for a single process.

    Raises:
        OSError: The file system has no room.
    """

    def __init__(self, promises: Sequence[AuditedPromise], file: Path | None = None) -> None:
        self.promises = {promise.label: promise for promise in promises}
        self._at = {label: HEADER + CELLS * k for k, label in enumerate(self.promises)}
        size = (HEADER + CELLS * len(promises)) * CELL_BYTES
        self._cells = mapped_memory(file, size).cast("q")
        self._lock = WorkerLock(file)
        self._writing = None if file is None else file.with_name(file.name + ".writing")

    @property
    def revision(self) -> int:
        """Number of changes so far, by all workers."""
        return self._cells[REVISION]

    def position(self, label: str) -> Position:
        """Return the position of a promise, from one read of the memory."""
        return _position(self._cells[self._at[label] + POINT])

    def sequence(self, label: str) -> ConfidenceSequence:
        """Return the sequence of a promise at its position."""
        with self._lock:
            return self._read(self._at[label])

    def state(self, label: str) -> State:
        """Return the state of a promise."""
        promise, (point, broken) = self.promises[label], self.position(label)
        if point:
            return "full" if promise.ladder[point] == FULL_DEPTH else "safer"
        if broken:
            return "broken"
        held = self.sequence(label).upper(promise.alpha) <= promise.epsilon
        return "held" if held else "unproven"

    def add(self, label: str, point: str, result: Result) -> Position | None:
        """Add the result of an audit.

        Args:
            label: The promise.
            point: Operating point that answered. Results of a point that answers no more are not
                added.
            result: The result.

        Returns:
            The new position, if this result changed it.
        """
        promise, at = self.promises[label], self._at[label]
        with self._lock:
            position = self.position(label)
            if promise.ladder[position.point] != point:
                return None
            sequence = self._read(at).add(result)
            moved = None
            if result == "disagreement" and promise.judged and not position.broken:
                moved = _next(promise, position, sequence)
            if moved is not None and moved.point != position.point:
                sequence = ConfidenceSequence()
            self._write(at, moved or position, sequence)
            self._cells[REVISION] += 1
        return moved

    def kept(self) -> dict[str, Kept]:
        """Return the records that survive a restart, by label."""
        with self._lock:
            return {
                label: Kept(promise.ladder[point], broken, self._read(self._at[label]))
                for label, promise in self.promises.items()
                for point, broken in [self.position(label)]
            }

    def restore(self, kept: Mapping[str, Kept]) -> bool:
        """Take over records of before, unless a worker has done so. Return whether they were.

        If the ladder does not have the point of a record any more, its promise begins at its own
        point and is marked as broken.
        """
        with self._lock:
            if self._cells[LOADED]:
                return False
            self._cells[LOADED] = 1
            for label in self.promises.keys() & kept.keys():
                self._take_over(label, kept[label])
            return True

    def _take_over(self, label: str, record: Kept) -> None:
        ladder, at = self.promises[label].ladder, self._at[label]
        if record.point in ladder:
            position = Position(ladder.index(record.point), record.broken)
            self._write(at, position, record.sequence)
        else:
            self._write(at, Position(0, broken=True), ConfidenceSequence())

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold a lock of all workers, under which one of them writes the records to a file."""
        if self._writing is None:
            yield
            return
        with self._writing.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self, at: int) -> ConfidenceSequence:
        cells = self._cells
        trials = cells[at + TRIALS]
        marks = min(trials // BLOCK, MARKS)
        return ConfidenceSequence(
            trials,
            cells[at + LOSSES],
            cells[at + UNKNOWN],
            tuple(cells[at + FIRST_MARK : at + FIRST_MARK + marks]),
        )

    def _write(self, at: int, position: Position, sequence: ConfidenceSequence) -> None:
        cells, marks = self._cells, sequence.marks
        cells[at + LOSSES] = sequence.losses
        cells[at + UNKNOWN] = sequence.unknown
        for number, mark in enumerate(marks, at + FIRST_MARK):
            cells[number] = mark
        cells[at + TRIALS] = sequence.trials
        cells[at + POINT] = 2 * position.point + position.broken


def _position(cell: int) -> Position:
    return Position(cell // 2, bool(cell % 2))


def _next(
    promise: AuditedPromise, position: Position, sequence: ConfidenceSequence
) -> Position | None:
    """Return the next position if the lower bound is above epsilon."""
    if sequence.evidence(promise.epsilon) < -math.log(promise.alpha):
        return None
    if position.point == len(promise.ladder) - 1:
        return Position(position.point, broken=True)
    return Position(position.point + 1, broken=False)
