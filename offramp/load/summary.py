"""The numbers of a load, from its outcomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from offramp.load.outcomes import HUNG_UP, NO_ANSWER, OK, Outcomes, completed

NAMES = {NO_ANSWER: "no answer", HUNG_UP: "hung up"}
LATE = 99.0  # percentile of the delay of the sender


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of a load. Times are in milliseconds. `None`: there is no such number.

    Attributes:
        load: `closed` or `open`.
        clients: Clients of a closed loop.
        rate: Requests per second of an open loop, on average.
        seconds: Length of the load.
        requests: Number of requests.
        answers_per_second: Answers in that time, per second.
        p50: Median latency. In an open loop it counts from the time at which a request was due.
        p95: 95th percentile.
        p99: 99th percentile.
        longest: The longest latency.
        late: 99th percentile of the delay from due to sent, in an open loop. If it is not small,
            all connections were busy or this machine was.
        statuses: Number of responses by status.
        exits: Share of the answers by exit, if they state it.
        mean_flops: Mean flops of the answers, if they state them.
        errors: Share of the requests without an answer.
    """

    load: str
    clients: int | None
    rate: float | None
    seconds: float
    requests: int
    answers_per_second: float
    p50: float | None
    p95: float | None
    p99: float | None
    longest: float | None
    late: float | None
    statuses: Mapping[str, int]
    exits: Mapping[str, float]
    mean_flops: float | None
    errors: float


def summarize(
    outcomes: Outcomes, seconds: float, clients: int | None, rate: float | None
) -> Summary:
    """Return the numbers of a load.

    Args:
        outcomes: Outcomes of its requests.
        seconds: Its length.
        clients: Clients of a closed loop.
        rate: Requests per second of an open loop.
    """
    answered = outcomes.where(outcomes.status == OK)
    late = outcomes.sent - outcomes.due
    return Summary(
        load="closed" if rate is None else "open",
        clients=clients,
        rate=rate,
        seconds=seconds,
        requests=len(outcomes),
        answers_per_second=completed(outcomes, 0.0, seconds),
        p50=_milliseconds(outcomes, 50),
        p95=_milliseconds(outcomes, 95),
        p99=_milliseconds(outcomes, 99),
        longest=_milliseconds(outcomes, 100),
        late=float(np.nanpercentile(late, LATE)) * 1e3 if rate is not None and len(late) else None,
        statuses=_statuses(outcomes),
        exits=_shares(answered),
        mean_flops=_mean_flops(answered),
        errors=1 - len(answered) / len(outcomes) if len(outcomes) else 0.0,
    )


def _milliseconds(outcomes: Outcomes, percent: float) -> float | None:
    return 1e3 * outcomes.percentile(percent) if outcomes.answered.any() else None


def _shares(answered: Outcomes) -> dict[str, float]:
    exits = answered.exit[answered.exit > 0]
    numbers, counts = np.unique(exits, return_counts=True)
    shares = (counts / max(1, len(exits))).tolist()
    return {str(number): share for number, share in zip(numbers.tolist(), shares, strict=True)}


def _mean_flops(answered: Outcomes) -> float | None:
    flops = answered.flops[answered.flops >= 0]
    return float(flops.mean()) if len(flops) else None


def _statuses(outcomes: Outcomes) -> dict[str, int]:
    """Count the requests of each status."""
    statuses, counts = np.unique(outcomes.status, return_counts=True)
    pairs = zip(statuses.tolist(), counts.tolist(), strict=True)
    return {NAMES.get(status, str(status)): count for status, count in pairs}
