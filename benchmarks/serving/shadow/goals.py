"""Goals of a shadow: answers/s beside a server without one, and copies at saturation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.goals import Goal, spread
from benchmarks.serving.figures import AT
from benchmarks.serving.revisions.throughput import NEW, OLD
from benchmarks.serving.rounds import OPEN, SATURATION, Row

LEAST = 0.98  # answers/s with a shadow over those without
MOST_AT_SATURATION = 0.002  # copies for each answer
# A saturated worker draws as many requests as there are copies under way, an eighth of its slots.
# They run once a load has ended: the warm-up, and the measurement.
AFTERWARDS = 2 * 256 // 8


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement, with the answers and the compared copies that the server counted."""

    row: Row
    answers: float
    copies: float


def goals(measured: Sequence[Measured], workers: int) -> Iterator[Goal]:
    """Return the goals: answers/s with a shadow, and copies at saturation.

    Args:
        measured: All measurements.
        workers: Worker processes of each server.
    """
    for measure_, load in ((OPEN, f"{AT:.0%} of saturation"), (SATURATION, "saturation")):
        chosen = [each.row for each in measured if each.row.measure == measure_]
        found = ratios(chosen, "rate")
        yield Goal(
            f"answers/s at {load}, with a shadow / without >= {LEAST}",
            f"{spread(found)}, p99 {spread(ratios(chosen, 'p99'))}, {len(found)} rounds",
            float(np.median(found)) >= LEAST,
        )
    share = copies_per_answer(measured, SATURATION, AFTERWARDS * workers)
    yield Goal(
        f"copies for each answer at saturation <= {MOST_AT_SATURATION:.1%}",
        f"{share:.2%}, at {AT:.0%} {copies_per_answer(measured, OPEN):.2%}",
        share <= MOST_AT_SATURATION,
    )


def ratios(rows: Sequence[Row], value: str) -> list[float]:
    """Return a value with a shadow over the one without, for each round."""
    values = {(row.round, row.server): getattr(row, value) for row in rows}
    numbers = sorted({row.round for row in rows})
    return [values[number, NEW] / values[number, OLD] for number in numbers]


def copies_per_answer(measured: Sequence[Measured], measure_: str, without: int = 0) -> float:
    """Return the compared copies for each answer of the server with a shadow.

    Args:
        measured: All measurements.
        measure_: The measure of those that count.
        without: Copies of each measurement that do not count.
    """
    chosen = [m for m in measured if (m.row.measure, m.row.server) == (measure_, NEW)]
    copies = sum(max(0.0, m.copies - without) for m in chosen)
    return copies / sum(m.answers for m in chosen)
