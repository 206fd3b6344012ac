"""State the share of alarms within 1,000 audits beside the largest share that any test can have.

    python -m benchmarks.promises.alarm_limits

The rows are the disagreements that noise and blur caused on version 1 of the CIFAR-10 bundle, after
clean audits. The limit is that of a test that knows the time of the change. A test that does not
know it has to share its probability of a false alarm among all times. Beside it is the limit for
the share that the server's sequence has for the first of its beginnings after the change.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.promises.alarms import ALPHA, SOON, Change, audits_to_alarm, past_of_change
from offramp.bundle.binomial import p_value
from serving.audit.sequence import BLOCK, weight_of

CLEAN = {0.01: 0.004, 0.02: 0.0135, 0.05: 0.0365}  # share that differs on clean images
CHANGED = {
    0.01: (0.013, 0.021, 0.028, 0.0395),
    0.02: (0.029, 0.0475, 0.0545),
    0.05: (0.0835, 0.1285),
}


def most_alarms(level: float, epsilon: float, changed: float, audits: int = SOON) -> float:
    """Return the largest probability of an alarm within some audits that a test can have.

    It is the power of the likelihood ratio test of all these results, which counts losses and draws
    lots at its border (Neyman and Pearson, 1933). A test that can stop earlier is also a test of
    these results.

    Args:
        level: Probability of a false alarm, if a share `epsilon` differs.
        epsilon: Share that is promised.
        changed: Share that differs, above `epsilon`.
        audits: Number of results.
    """

    def reaches(losses: int, share: float) -> float:
        return 1 - p_value(losses - 1, audits, share) if losses else 1.0

    border = next(k for k in range(audits) if reaches(k + 1, epsilon) <= level)
    false, found = (reaches(border + 1, share) for share in (epsilon, changed))
    lots = (level - false) / (reaches(border, epsilon) - false)
    return found + lots * (reaches(border, changed) - found)


def alarms_within(change: Change, runs: int, before: int) -> float:
    """Return the share of runs in which the server's sequence has an alarm within `SOON` audits."""
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(runs):
        past = past_of_change(change.clean, before, rng)
        losses = rng.random(SOON) < change.changed
        found += audits_to_alarm(losses, change.epsilon, past) <= SOON
    return found / runs


def table(runs: int, before: int) -> Iterator[str]:
    """Yield the lines of the table."""
    share = float(weight_of(np.array(before / BLOCK + 1)))
    yield f"| promise | differ | alarm within {SOON:,} | limit | limit for {share:.1%} of δ |"
    yield "|---" * 5 + "|"
    for epsilon, shares in CHANGED.items():
        for changed in shares:
            found = alarms_within(Change(epsilon, CLEAN[epsilon], changed), runs, before)
            limits = (most_alarms(ALPHA * of, epsilon, changed) for of in (1, share))
            cells = [f"{1 - epsilon:.0%}", *(f"{each:.1%}" for each in (changed, found, *limits))]
            yield "| " + " | ".join(cells) + " |"


def main(words: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="number of runs (1000)")
    parser.add_argument("--before", type=int, default=10_000, help="clean audits before (10000)")
    arguments = parser.parse_args(words)
    print(*table(arguments.runs, arguments.before), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
