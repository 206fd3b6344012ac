"""State what audits cost in flops, by the manifest of a bundle.

    python -m benchmarks.promises.audit_cost

An audit goes on from the features of the answer's exit to full depth, and evaluates no other exit.
An answer at the last exit costs nothing to audit, and is drawn as often as others. An audit costs
at least what its answer saved. Answers of less than a third of full depth's flops save more than
twice their own, so audits of 1 % of them take more than 2 % of their flops, whatever runs them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Promise

SHIPPED = Path("deploy/bundles/cifar10-msdnet")
SHARE = 0.01  # of the answers that are audited
GOAL = 0.02  # most flops of audits, relative to those of answers


class Cost(NamedTuple):
    """Mean flops of an audit, of an answer, and of an answer at full depth."""

    audit: float
    answer: float
    full: float

    @property
    def of_answers(self) -> float:
        """Return the flops of audits over those of answers."""
        return SHARE * self.audit / self.answer

    @property
    def of_all(self) -> float:
        """Return the share of audits in all flops."""
        return self.of_answers / (1 + self.of_answers)

    @property
    def of_full(self) -> float:
        """Return the flops of audits over those of full depth for all answers."""
        return SHARE * self.audit / self.full

    @property
    def least_of_answers(self) -> float:
        """Return what answers saved of full depth, for audits of `SHARE`, over their flops."""
        return SHARE * (self.full - self.answer) / self.answer

    @property
    def share_within_goal(self) -> float:
        """Return the share of answers whose audits take `GOAL` of the answers' flops."""
        return GOAL * self.answer / self.audit


def cost_of(manifest: Manifest, promise: Promise) -> Cost:
    """Return the cost for the exits that a promise states."""
    shares = [share.value for share in promise.exit_shares]
    rest = [sum(manifest.full_stage_flops[exit_:]) for exit_ in range(1, manifest.exits + 1)]
    return Cost(float(np.dot(shares, rest)), promise.mean_flops.value, manifest.full_flops)


def table(manifest: Manifest) -> Iterator[str]:
    """Yield the lines of a table, a promise each."""
    assert manifest.promises is not None, "the bundle promises nothing"
    yield (
        "| promise | of the answers' flops | of all flops | of full depth's flops | "
        f"least, of the answers' | share of answers for {GOAL:.0%} of their flops |"
    )
    yield "|---" * 6 + "|"
    for promise in manifest.promises.offered:
        cost = cost_of(manifest, promise)
        shares = (
            cost.of_answers,
            cost.of_all,
            cost.of_full,
            cost.least_of_answers,
            cost.share_within_goal,
        )
        yield f"| {promise.level} | " + " | ".join(f"{100 * each:.2f} %" for each in shares) + " |"


def main(words: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    print(*table(read_manifest(parser.parse_args(words).bundle)), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
