"""Plans of requests, their outcomes, and the metrics computed from them. Pure numpy.

Times are float64 seconds from the start of the load. Latency counts from the time at which a
request was due, not from the time at which it was sent. A server that stalls is charged for
every request that was due meanwhile (no coordinated omission).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]

OK, REFUSED, NO_ANSWER, HUNG_UP = 200, 429, 0, -1
BUDGET, DEADLINE, DEGRADED = 0, 1, 2  # reasons to end at an exit
NEVER = np.inf  # time of hang-up of a patient client


@dataclass(frozen=True, slots=True)
class Plan:
    """Requests in the order in which they are sent.

    Attributes:
        paths: Every path and query that is used.
        path: Index into `paths` of each request, int64 [N].
        image: Index of each request's image, int64 [N].
        send: Due times, ascending, [N]. `None` for a closed loop, where each client waits for its
            response.
        hang_up: Seconds after sending at which the client closes, [N]. 0: it closes after a part
            of the body. `None`: no client closes.
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
    """Outcomes of requests in the order sent, one array [N] for each quantity.

    Attributes:
        path: Index of the path, as in the plan.
        image: Index of the image, as in the plan.
        due: Time at which the request was due.
        sent: Time at which it was sent.
        done: Time of the last byte of the response, or of the hang-up.
        status: HTTP status, NO_ANSWER or HUNG_UP.
        index: Predicted class. Without an answer it is -1, as are `exit` and `flops`.
        exit: Exit of the answer, from 1.
        flops: Flops that the answer states.
        probability: Probability of the class, or NaN without an answer.
        ended_by: Reason to end at that exit: BUDGET, DEADLINE or DEGRADED.
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
    ended_by: Integers

    def __len__(self) -> int:
        return len(self.path)

    def where(self, mask: Mask) -> Outcomes:
        """Return the requests of a mask [N]."""
        return replace(self, **{f.name: getattr(self, f.name)[mask] for f in fields(self)})

    def between(self, start: float, end: float) -> Outcomes:
        """Return the requests that were due in [start, end)."""
        return self.where((self.due >= start) & (self.due < end))

    @property
    def answered(self) -> Mask:
        """Mask of the requests with an answer, [N]."""
        mask: Mask = self.status == OK
        return mask

    @property
    def latency(self) -> Floats:
        """Seconds from due to done, of the answered requests."""
        return (self.done - self.due)[self.answered]

    def percentile(self, percent: float) -> float:
        """Return a percentile of the latency in seconds, or NaN without an answer."""
        return percentile(self.latency, percent)

    def goodput(self, slo: float, seconds: float) -> float:
        """Return answers per second with a latency of at most `slo` seconds."""
        return float((self.latency <= slo).sum()) / seconds

    def accuracy(self, labels: Integers) -> float:
        """Return the share of correct answers. `labels` has the class of each image."""
        answered = self.answered
        correct = self.index[answered] == labels[self.image[answered]]
        return float(correct.mean()) if len(correct) else np.nan


def percentile(values: Floats, percent: float) -> float:
    """Return the smallest value that `percent` of the values do not exceed. NaN if empty."""
    if not len(values):
        return np.nan
    return float(np.percentile(values, percent, method="inverted_cdf"))


def poisson(rate: float, seconds: float, rng: np.random.Generator) -> Floats:
    """Return independent arrival times in [0, seconds), `rate` per second on average."""
    times = np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))
    return times.astype(np.float64)


def closed(path: str, requests: int, images: int, rng: np.random.Generator) -> Plan:
    """Plan requests to one path with random images, for a closed loop."""
    return Plan((path,), np.zeros(requests, np.int64), rng.integers(images, size=requests))


def open_loop(path: str, send: Floats, images: int, rng: np.random.Generator) -> Plan:
    """Plan requests to one path with random images, due at given times."""
    return replace(closed(path, len(send), images, rng), send=send)


def completed(outcomes: Outcomes, start: float, end: float) -> float:
    """Return answers per second over those done in [start, end)."""
    done = outcomes.done[outcomes.answered]
    return float(((done >= start) & (done < end)).sum()) / (end - start)
