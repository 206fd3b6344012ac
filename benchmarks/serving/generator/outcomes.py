"""What is sent and what came back, and the figures that are read off it. Pure numpy.

Times are float64 seconds from the start of the load. Latency counts from the time at which a
call was to be sent, not from when the generator got round to it: a server that stalls is
charged for all who had to wait meanwhile (no coordinated omission).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

OK, REFUSED, NO_ANSWER, HUNG_UP = 200, 429, 0, -1
WHOLE, DEADLINE, DEGRADED = 0, 1, 2
NEVER = np.inf  # seconds after which a client that stays hangs up


@dataclass(frozen=True, slots=True)
class Plan:
    """Calls in the order in which they are sent.

    Args:
        paths: path and query of a call, to choose from.
        path: int64 [N], which of them.
        image: int64 [N], which of the load's images.
        send: [N], ascending; None for a closed loop, where each client waits for its answer.
        hang_up: [N], seconds after sending at which the client closes; 0: it closes with half
            of the body sent; None: all stay.
    """

    paths: tuple[str, ...]
    path: Integers
    image: Integers
    send: Floats | None = None
    hang_up: Floats | None = None

    def __len__(self) -> int:
        return len(self.path)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """One row a call, [N] each, in the order sent.

    Args:
        path: as in the plan.
        image: as in the plan.
        due: when it was to be sent.
        sent: when it was.
        done: when the last byte of its answer came, or it was given up.
        status: of HTTP, or NO_ANSWER, or HUNG_UP.
        index: class answered, -1 without one; so are `exit` and `flops`.
        exit: exit it left at, from 1.
        flops: that the answer states.
        probability: of the class; NaN without an answer.
        cut: WHOLE, or what made it leave early: DEADLINE, DEGRADED.
    """

    path: Integers
    image: Integers
    due: Floats
    sent: Floats
    done: Floats
    status: Integers
    index: Integers
    exit: Integers
    flops: Integers
    probability: Floats
    cut: Integers

    def __len__(self) -> int:
        return len(self.path)

    def where(self, mask: Mask) -> Outcomes:
        """Some of the calls."""
        return replace(self, **{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    def between(self, start: float, end: float) -> Outcomes:
        """Those that were due in [start, end)."""
        return self.where((self.due >= start) & (self.due < end))

    @property
    def answered(self) -> Mask:
        """Those that got an answer with a class."""
        mask: Mask = self.status == OK
        return mask

    @property
    def latency(self) -> Floats:
        """Seconds from due to done of those answered."""
        return (self.done - self.due)[self.answered]

    def percentile(self, percent: float) -> float:
        """A latency that so many percent of the answers kept to; NaN without an answer."""
        return percentile(self.latency, percent)

    def goodput(self, slo: float, seconds: float) -> float:
        """Answers within `slo` seconds, a second."""
        return float((self.latency <= slo).sum()) / seconds

    def accuracy(self, labels: Integers) -> float:
        """Share of the answers that are right; labels by image."""
        answered = self.answered
        right = self.index[answered] == labels[self.image[answered]]
        return float(right.mean()) if len(right) else np.nan


def percentile(values: Floats, percent: float) -> float:
    """The smallest value that `percent` of them do not exceed; NaN of none."""
    if not len(values):
        return np.nan
    return float(np.percentile(values, percent, method="inverted_cdf"))


def poisson(rate: float, seconds: float, rng: np.random.Generator) -> Floats:
    """Times of arrival in [0, seconds), `rate` a second on average, independent of each other."""
    times = np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))
    return times.astype(np.float64)


def closed(path: str, calls: int, images: int, rng: np.random.Generator) -> Plan:
    """Calls to one path with random images, for a closed loop."""
    return Plan((path,), np.zeros(calls, np.int64), rng.integers(images, size=calls))


def open_loop(path: str, send: Floats, images: int, rng: np.random.Generator) -> Plan:
    """Calls to one path with random images at given times."""
    return replace(closed(path, len(send), images, rng), send=send)


def completed(outcomes: Outcomes, start: float, end: float) -> float:
    """Answers a second that were done in [start, end)."""
    done = outcomes.done[outcomes.answered]
    return float(((done >= start) & (done < end)).sum()) / (end - start)
