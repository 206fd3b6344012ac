"""What a benchmark was to show, and whether it did."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MET, MISSED = "met      ", "NOT MET  "


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


def is_verdict(line: str) -> bool:
    """Whether `print_goals` printed it."""
    return line.startswith((MET, MISSED))


def print_goals(goals: Iterable[Goal]) -> int:
    """One line for each; the exit status is 0 if all are met, else 1."""
    listed = list(goals)
    for goal in listed:
        print(f"{MET if goal.met else MISSED}{goal.text}: {goal.figure}")
    return 0 if all(goal.met for goal in listed) else 1


def verdicts(command: Sequence[str]) -> list[str]:
    """Run one benchmark, show what it prints, and return its goals' lines.

    Raises:
        subprocess.CalledProcessError: it failed before it came to them.
    """
    print(f"\n===== {' '.join(command)}", flush=True)
    found = []
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            found += [line.rstrip()] if is_verdict(line) else []
    if running.returncode and not found:
        raise subprocess.CalledProcessError(running.returncode, command)
    return found
