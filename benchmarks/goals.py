"""Print and collect the goals of benchmarks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MET, MISSED = "met      ", "NOT MET  "


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal of a benchmark, with its result.

    Args:
        text: Description of the goal.
        figure: The measured value.
        met: True if the value meets the goal.
    """

    text: str
    figure: str
    met: bool


def is_verdict(line: str) -> bool:
    """Return True for a line that `print_goals` printed."""
    return line.startswith((MET, MISSED))


def print_goals(goals: Iterable[Goal]) -> int:
    """Print each goal once it is known. Return the exit status: 0 if all are met, else 1."""
    status = 0
    for goal in goals:
        print(f"{MET if goal.met else MISSED}{goal.text}: {goal.figure}", flush=True)
        status |= not goal.met
    return status


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the median, the lowest and the highest of some values as text."""
    middle, low, high = (f"{each(values):.{digits}f}" for each in (np.median, min, max))
    return f"{middle} [{low}, {high}]"


def spread_over_rounds(values: Sequence[float]) -> str:
    """Return the spread of a value of each round, and the number of rounds."""
    return f"{spread(values)}, {len(values)} rounds"


def verdicts(command: Sequence[str]) -> list[str]:
    """Run one benchmark, print its output, and return the lines of its goals.

    Raises:
        subprocess.CalledProcessError: The benchmark failed, and not because it missed a goal.
    """
    print(f"\n===== {' '.join(command)}", flush=True)
    lines = []
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        for line in running.stdout:
            print(line, end="", flush=True)
            lines += [line.rstrip()] if is_verdict(line) else []
    if running.returncode and not any(line.startswith(MISSED) for line in lines):
        raise subprocess.CalledProcessError(running.returncode, command)
    return lines
