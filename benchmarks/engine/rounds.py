"""The speeds of one round of `benchmarks.engine.classifier`, measured and printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np


@dataclass(frozen=True, slots=True)
class Speed:
    """Images a second, and milliseconds of CPU for an image."""

    rate: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.rate:7.0f}/s {self.cpu:6.3f} ms"


@dataclass(frozen=True, slots=True)
class Round:
    """Speeds of the stages alone, of the decoding alone, and of the classifier."""

    limit: Speed
    decoding: Speed
    arrays: Speed
    files: Speed

    @property
    def of_limit(self) -> float:
        """The rate of arrays as a share of the limit."""
        return self.arrays.rate / self.limit.rate

    @property
    def of_limit_cpu(self) -> float:
        """The CPU time of the limit as a share of that of arrays: no other process changes it."""
        return self.limit.cpu / self.arrays.cpu

    @property
    def of_limit_with_decoding(self) -> float:
        """The rate of files as a share of the limit of stages and decoding on the same cores."""
        return self.files.rate * (1 / self.limit.rate + 1 / self.decoding.rate)


def speed(work: Callable[[], int]) -> Speed:
    """Return the speed of a function that returns the number of its images."""
    started, cpu = perf_counter(), process_time()
    done = work()
    return Speed(done / (perf_counter() - started), 1e3 * (process_time() - cpu) / done)


def report(rounds: Sequence[Round]) -> tuple[float, float]:
    """Print each round, and return the medians of both shares."""
    print(
        "images/s and CPU of an image: stages alone, decoding alone, arrays, files; "
        "arrays / limit by rate and by CPU, files / limit by rate"
    )
    for each in rounds:
        print(
            f"{each.limit}  {each.decoding}  {each.arrays}  {each.files}  "
            f"{each.of_limit:.3f} {each.of_limit_cpu:.3f} {each.of_limit_with_decoding:.3f}"
        )
    arrays = float(np.median([each.of_limit for each in rounds]))
    return arrays, float(np.median([each.of_limit_with_decoding for each in rounds]))
