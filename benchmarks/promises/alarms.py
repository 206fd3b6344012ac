"""Measure how many audits an alarm takes, on simulated answers.

    python -m benchmarks.promises.alarms

The first table gives the median of the audits to an alarm, when so many times as many answers
differ as is promised, from the first audit on. The second has a past of clean audits, and then as
many disagreements as noise caused on version 1 of the CIFAR-10 bundle. It compares the server's
sequence with a test that no server can run, because it knows the time of the change and both
rates: Wald's sequential probability ratio test (1945). Of all tests with as few false alarms, that
one takes the fewest audits in the mean.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence, Result
from serving.audit.standing import FULL_DEPTH, AuditedPromise, Standing

ALPHA = 0.05 / 3  # of each of three promises
WANTED = -math.log(ALPHA)
EPSILONS, TIMES = (0.01, 0.02, 0.05), (1.5, 2, 3, 5)
LONGEST = 20_000  # audits of a run
SOON = 1000
NOTHING = ConfidenceSequence()
RESULTS: tuple[Result, Result] = ("agreement", "disagreement")
Losses = NDArray[np.bool_]


class Change(NamedTuple):
    """A promise, and shares of disagreements before and after a change."""

    epsilon: float
    clean: float
    changed: float


CHANGES = (Change(0.01, 0.005, 0.0375), Change(0.02, 0.0075, 0.0825), Change(0.05, 0.035, 0.225))


def at_losses(losses: Losses, past: ConfidenceSequence = NOTHING) -> Iterator[ConfidenceSequence]:
    """Yield the sequence at each loss. Other results give no alarm.

    Args:
        losses: Results.
        past: The sequence before them.
    """
    upto, begun = past.losses + np.cumsum(losses), past.trials % BLOCK
    marks = upto[BLOCK - 1 - begun :: BLOCK].tolist()
    for number in np.flatnonzero(losses).tolist():
        known = (*past.marks, *marks[: (begun + number + 1) // BLOCK])[-MARKS:]
        yield ConfidenceSequence(past.trials + number + 1, int(upto[number]), marks=known)


def past_of(share: float, audits: int, rng: np.random.Generator) -> ConfidenceSequence:
    """Return the sequence of so many audits with a share of losses."""
    blocks, rest = divmod(audits, BLOCK)
    *marks, losses = np.cumsum(rng.binomial([BLOCK] * blocks + [rest], share)).tolist()
    return ConfidenceSequence(audits, losses, marks=tuple(marks[-MARKS:]))


def past_of_change(share: float, audits: int, rng: np.random.Generator) -> ConfidenceSequence:
    """Return the same of up to `BLOCK` audits more, because a change waits for no beginning."""
    return past_of(share, audits + int(rng.integers(BLOCK)), rng)


def audits_to_alarm(losses: Losses, epsilon: float, past: ConfidenceSequence = NOTHING) -> float:
    """Return the number of audits to an alarm, infinite without one."""
    found = (each.trials for each in at_losses(losses, past) if each.exceeds(epsilon, ALPHA))
    return next(found, math.inf) - past.trials


def audits_if_all_is_known(losses: Losses, epsilon: float, changed: float) -> float:
    """Return the same for the likelihood ratio of the true share against epsilon."""
    steps = np.where(losses, math.log(changed / epsilon), math.log((1 - changed) / (1 - epsilon)))
    passed = np.flatnonzero(np.cumsum(steps) >= WANTED)
    return float(passed[0]) + 1 if passed.size else math.inf


def moves_of(
    promise: AuditedPromise, past: ConfidenceSequence, losses: Losses
) -> Iterator[tuple[float, int]]:
    """Yield the moves of a promise on its ladder: the number of the audit, and the new point.

    Args:
        promise: The promise.
        past: The sequence of its own point before.
        losses: For each point of the ladder and each audit, whether the point loses.
    """
    standing = Standing(sequence=past)
    for number, column in enumerate(losses.T.tolist(), 1):
        results = [RESULTS[each] for each in column]
        before, standing = standing, standing.add(promise, results[standing.point], results)
        if standing.point != before.point:
            yield number, standing.point
            if promise.ladder[standing.point] == FULL_DEPTH and not standing.candidates:
                return


def from_the_first(runs: int) -> Iterator[str]:
    """Yield the lines of the first table."""
    rng = np.random.default_rng(0)
    yield "| promise | " + " | ".join(f"{times:g} times as many" for times in TIMES) + " |"
    yield "|---|" + "---|" * len(TIMES)
    for epsilon in EPSILONS:
        cells = []
        for times in TIMES:
            draws = (rng.random(LONGEST) < times * epsilon for _ in range(runs))
            cells.append(f"{np.median([audits_to_alarm(each, epsilon) for each in draws]):,.0f}")
        yield f"| {1 - epsilon:.0%} | " + " | ".join(cells) + " |"


def after_a_change(runs: int, before: int) -> Iterator[str]:
    """Yield the lines of the second table."""
    rng = np.random.default_rng(1)
    columns = f"median | 99 % | over {SOON:,}"
    yield f"| promise | differ | {columns} | if all is known: {columns} |"
    yield "|---" * 8 + "|"
    for epsilon, clean, changed in CHANGES:
        found = np.empty((2, runs))
        for run in range(runs):
            past = past_of_change(clean, before, rng)
            losses = rng.random(LONGEST) < changed
            found[0, run] = audits_to_alarm(losses, epsilon, past)
            found[1, run] = audits_if_all_is_known(losses, epsilon, changed)
        cells = [f"{1 - epsilon:.0%}", f"{changed:.1%}"]
        for each in found:
            cells += [f"{value:,.0f}" for value in np.quantile(each, [0.5, 0.99], method="higher")]
            cells.append(f"{(each > SOON).mean():.1%}")
        yield "| " + " | ".join(cells) + " |"


def main(words: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="number of runs (1000)")
    parser.add_argument("--before", type=int, default=5000, help="clean audits before (5000)")
    arguments = parser.parse_args(words)
    print(*from_the_first(arguments.runs), "", sep="\n")
    print(*after_a_change(arguments.runs, arguments.before), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
