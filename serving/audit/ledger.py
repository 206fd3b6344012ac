"""The audits of all promises, in memory that all workers map.

A promise has a ladder of operating points. The first is its own, the others are safer. Its answers
come from one of them, its position. `serving.audit.standing` has the rules by which it moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence, Result
from serving.audit.standing import FULL_DEPTH, AuditedPromise, Position, Standing, found_broken
from serving.observe.mapped_memory import WorkerLock, mapped_memory

State = Literal["unproven", "held", "broken", "safer", "full"]
STATES: tuple[State, ...] = (
    "unproven",  # the upper bound is above epsilon
    "held",  # the upper bound is at most epsilon
    "broken",  # the lower bound passed epsilon, and the same point answers
    "safer",  # a safer certified point answers instead
    "full",  # full depth answers instead
)
CELL_BYTES = 8
LOADED, REVISION, HEADER = 0, 1, 2  # cells before those of the promises
PLACE, FIRST_SEQUENCE = 0, 1  # cells of a promise: its place, then a sequence for each point
TRIALS, LOSSES, UNKNOWN, FIRST_MARK = 0, 1, 2, 3  # cells of a sequence
SEQUENCE = FIRST_MARK + MARKS
MOST_CANDIDATES = 1 << 16


class Kept(NamedTuple):
    """The record of one promise that survives a restart.

    Attributes:
        point: Name of the operating point that answers.
        broken: The promise was found broken at this point.
        sequence: The sequence of this point.
        candidates: Those of the cheaper points that are tried, which are before it on the ladder.
        ladder: Names of all points. Empty: of an earlier server, which did not keep them.
    """

    point: str
    broken: bool
    sequence: ConfidenceSequence
    candidates: tuple[ConfidenceSequence, ...] = ()
    ladder: tuple[str, ...] = ()


class Ledger:
    """The position and the sequence of each promise.

    Args:
        promises: The promises. All workers have the same ones.
        file: File that all workers map. `None` for a single process.

    Attributes:
        promises: The promises, by label.
        writing: Lock of all workers, under which one of them writes the records to a file.

    Raises:
        OSError: The file system has no room.
    """

    def __init__(self, promises: Sequence[AuditedPromise], file: Path | None = None) -> None:
        self.promises = {promise.label: promise for promise in promises}
        self._at: dict[str, int] = {}
        end = HEADER
        for promise in promises:
            self._at[promise.label] = end
            end += FIRST_SEQUENCE + SEQUENCE * len(promise.ladder)
        self._cells = mapped_memory(file, end * CELL_BYTES).cast("q")
        self._lock = WorkerLock(file)
        self.writing = WorkerLock(file and file.with_name(file.name + ".writing"))

    @property
    def revision(self) -> int:
        """Number of changes so far, by all workers."""
        return self._cells[REVISION]

    def position(self, label: str) -> Position:
        """Return the position of a promise, from one read of the memory."""
        return self._place(label)[0]

    def sequence(self, label: str) -> ConfidenceSequence:
        """Return the sequence of a promise at its position."""
        with self._lock:
            return self._read(label).sequence

    def tries(self, label: str) -> bool:
        """Return whether audits of a promise try points that are cheaper than its position."""
        return self._place(label)[1] > 0

    def state(self, label: str) -> State:
        """Return the state of a promise."""
        promise, (point, broken) = self.promises[label], self.position(label)
        if point:
            return "full" if promise.ladder[point] == FULL_DEPTH else "safer"
        if broken:
            return "broken"
        supports = self.sequence(label).supports(promise.epsilon, promise.alpha)
        return "held" if promise.supported and supports else "unproven"

    def add(
        self, label: str, point: str, result: Result, others: Sequence[Result] = ()
    ) -> Position | None:
        """Add the result of an audit.

        Args:
            label: The promise.
            point: Operating point that answered. Results of a point that answers no more are not
                added.
            result: The result.
            others: Result that each point of the ladder would have had. Empty: unknown.

        Returns:
            The new position, if this result changed it.
        """
        promise = self.promises[label]
        with self._lock:
            before = self._read(label)
            if promise.ladder[before.point] != point:
                return None
            after = before.add(promise, result, others)
            self._write(label, after)
            self._cells[REVISION] += 1
        return None if after.position == before.position else after.position

    def kept(self) -> dict[str, Kept]:
        """Return the records that survive a restart, by label."""
        with self._lock:
            found = {label: self._read(label) for label in self.promises}
        return {
            label: Kept(
                self.promises[label].ladder[each.point],
                each.broken,
                each.sequence,
                each.candidates,
                self.promises[label].ladder,
            )
            for label, each in found.items()
        }

    def restore(self, kept: Mapping[str, Kept]) -> bool:
        """Take over records of before, unless a worker has done so. Return whether they were.

        If the ladder does not have the point of a record any more, its promise was found broken at
        its own point. So was one with a safer point, if the ladder was another one. A broken
        promise moves as after an alarm, if the ladder has other points now.
        """
        with self._lock:
            if self._cells[LOADED]:
                return False
            self._cells[LOADED] = 1
            for label in self.promises.keys() & kept.keys():
                self._take_over(label, kept[label])
            return True

    def _take_over(self, label: str, record: Kept) -> None:
        promise = self.promises[label]
        ladder = promise.ladder
        moved = record.point != ladder[0]
        if record.point not in ladder or (moved and record.ladder not in ((), ladder)):
            self._write(label, found_broken(promise, 0))
            return
        point = ladder.index(record.point)
        if record.broken:
            self._write(label, found_broken(promise, point, record.sequence))
            return
        candidates = record.candidates if len(record.candidates) < point else ()  # another ladder
        self._write(label, Standing(point, record.broken, record.sequence, candidates))

    def _place(self, label: str) -> tuple[Position, int]:
        """Return the position of a promise, and the number of its candidates."""
        place, candidates = divmod(self._cells[self._at[label] + PLACE], MOST_CANDIDATES)
        return Position(place // 2, bool(place % 2)), candidates

    def _read(self, label: str) -> Standing:
        (point, broken), tried = self._place(label)
        ats = self._sequences(label, point, tried)
        *candidates, sequence = map(self._sequence, ats)
        return Standing(point, broken, sequence, tuple(candidates))

    def _sequences(self, label: str, point: int, candidates: int) -> range:
        """Return the first cells of the sequences of the candidates and of the point."""
        first = self._at[label] + FIRST_SEQUENCE
        return range(first, first + SEQUENCE * (point + 1), SEQUENCE)[point - candidates :]

    def _sequence(self, at: int) -> ConfidenceSequence:
        cells = self._cells
        trials = cells[at + TRIALS]
        marks = min(trials // BLOCK, MARKS)
        return ConfidenceSequence(
            trials,
            cells[at + LOSSES],
            cells[at + UNKNOWN],
            tuple(cells[at + FIRST_MARK : at + FIRST_MARK + marks]),
        )

    def _write(self, label: str, standing: Standing) -> None:
        """Write a standing, its place last and in one cell, so that no worker reads half of it."""
        (point, broken), tried = standing.position, len(standing.candidates)
        ats = self._sequences(label, point, tried)
        for at, sequence in zip(ats, (*standing.candidates, standing.sequence), strict=True):
            self._write_sequence(at, sequence)
        self._cells[self._at[label] + PLACE] = (2 * point + broken) * MOST_CANDIDATES + tried

    def _write_sequence(self, at: int, sequence: ConfidenceSequence) -> None:
        cells, marks = self._cells, sequence.marks
        cells[at + LOSSES] = sequence.losses
        cells[at + UNKNOWN] = sequence.unknown
        for number, mark in enumerate(marks, at + FIRST_MARK):
            cells[number] = mark
        cells[at + TRIALS] = sequence.trials
