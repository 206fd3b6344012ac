"""What a benchmark was to show, and whether it did."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the verdict.

    Args:
        text: what was aimed at.
        figure: what was measured.
        met: whether that is enough.
    """

    text: str
    figure: str
    met: bool


def print_goals(goals: Iterable[Goal]) -> int:
    """One line for each; the exit status is 0 if all are met, else 1."""
    listed = list(goals)
    for goal in listed:
        print(f"{'met    ' if goal.met else 'NOT MET'}  {goal.text}: {goal.figure}")
    return 0 if all(goal.met for goal in listed) else 1
