"""Check promised agreement with full depth on images that a bundle has not seen, over HTTP.

Every image is asked for full depth, for each promise of agreement that the bundle offers, and for
each of them with a deadline that is too short for some images. An answer that a deadline cut short
has to say that its promise is not kept.

    python -m benchmarks.promises.served --bundle deploy/bundles/cifar10-msdnet --data cifar10

Exit status 1 if a promise is missed, mean flops are not those of the manifest, or an answer is
marked wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.client import serving
from benchmarks.engine.classifier import contents_of
from benchmarks.goals import Goal, print_goals
from offramp import Client
from offramp.answers import Answer
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Promise
from offramp.errors import OfframpError

FLOPS = 0.02  # relative difference to the mean flops of the manifest
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """Answers to the same images in three ways, in their order.

    Attributes:
        full: At full depth.
        promised: With the promise.
        hurried: With the promise and a deadline. An error is an answer that came too late.
    """

    full: Sequence[Answer]
    promised: Sequence[Answer]
    hurried: Sequence[Answer | OfframpError]

    @property
    def disagreeing(self) -> int:
        """Number of promised answers of another class than at full depth."""
        pairs = zip(self.full, self.promised, strict=True)
        return sum(full.index != answer.index for full, answer in pairs)


def goals_of(promise: Promise, asked: Asked) -> Iterator[Goal]:
    """Yield the goals of a promise with their figures."""
    count, name = len(asked.promised), str(promise.level)
    share = asked.disagreeing / count
    text = f"{name}: at most {100 * promise.epsilon:g} % disagree with full depth"
    figure = f"{asked.disagreeing} of {count} ({100 * share:.2f} %)"
    yield Goal(text, figure, share <= promise.epsilon)
    mean = float(np.mean([answer.flops for answer in asked.promised]))
    apart = mean / promise.mean_flops.value - 1
    text = f"{name}: mean flops within {100 * FLOPS:g} % of the manifest's"
    yield Goal(text, f"{mean / 1e6:.1f} M ({100 * apart:+.1f} %)", abs(apart) <= FLOPS)
    kept = all(answer.promise is not None and answer.promise.kept for answer in asked.promised)
    yield Goal(f"{name}: without a deadline every promise is kept", "yes" if kept else "no", kept)
    hurried = [answer for answer in asked.hurried if isinstance(answer, Answer)]
    cut = [answer for answer in hurried if answer.deadline_hit]
    right = all(
        answer.promise is not None and answer.promise.kept != answer.deadline_hit
        for answer in hurried
    )
    text = f"{name}: exactly the answers that the deadline cut short are marked"
    yield Goal(text, f"{len(cut)} cut of {len(hurried)}", right and bool(cut))


def measured(
    client: Client, manifest: Manifest, files: Sequence[bytes], deadline: float
) -> Iterator[Goal]:
    """Ask for all promises of agreement, and yield their goals."""

    def answers(
        budget: str | None = None, promise: str | None = None, deadline_ms: float | None = None
    ) -> list[Answer | OfframpError]:
        asked = client.classify_iter(
            files, budget, promise=promise, deadline_ms=deadline_ms, connections=CONNECTIONS
        )
        return list(asked)

    def all_answered(outcomes: Sequence[Answer | OfframpError]) -> list[Answer]:
        for outcome in outcomes:
            if isinstance(outcome, OfframpError):
                raise outcome
        return [outcome for outcome in outcomes if isinstance(outcome, Answer)]

    full = all_answered(answers("full"))
    assert manifest.promises is not None
    for promise in manifest.promises.offered:
        if promise.kind == "agreement":
            level = str(promise.level)
            promised = all_answered(answers(promise=level))
            hurried = answers(promise=level, deadline_ms=deadline)
            yield from goals_of(promise, Asked(full, promised, hurried))


def main() -> int:
    """Run the check and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", type=Path, required=True, help="folder or parquet file of images")
    parser.add_argument("--count", type=int, default=5000, help="images (default: 5000)")
    text = "milliseconds of the deadline (default: 12), too short for some images"
    parser.add_argument("--deadline", type=float, default=12.0, help=text)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    if manifest.promises is None:
        parser.error(f"--bundle: {arguments.bundle} promises nothing")
    files = contents_of(arguments.data, arguments.count)
    print(f"{manifest.name} {manifest.version}, {len(files)} images, {CONNECTIONS} connections")
    with serving(arguments.bundle) as url, Client(url, retries=10) as client:
        return print_goals(measured(client, manifest, files, arguments.deadline))


if __name__ == "__main__":
    sys.exit(main())
