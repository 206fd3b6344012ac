"""Check that answers over HTTP agree with the manifest.

A real server classifies every test image at every named budget. For each budget the table gives
mean flops, accuracy and exit shares as served, beside the intervals that the manifest states for
as many new images. Then it states if `/metrics` adds up, and gives the accuracy of the budget and
of every exit alone with 95 % (Wilson) intervals. Exit status 1 if a statement does not hold.

    python -m benchmarks.serving.served --bundle deploy/bundles/cifar10-msdnet --data cifar10
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.client import Served, classify, counters, serving
from exporter.budgets import FULL, estimate_mean, estimate_share
from offramp.bundle.manifest import Manifest, OperatingPoint, read_manifest
from offramp.bundle.values import Estimate
from training.data.images import File
from training.data.splits import load_files
from training.evaluation.calibration_error import wilson


@dataclass(frozen=True, slots=True)
class Statement:
    """Statement of the manifest about a budget, and the value as served.

    Attributes:
        quantity: Name of the quantity.
        seen: Value as served.
        stated: Value and interval of the manifest.
    """

    quantity: str
    seen: float
    stated: Estimate

    @property
    def holds(self) -> bool:
        """True if the served value lies in the interval."""
        return self.stated.within(self.seen)


def deviation_of_flops(manifest: Manifest, point: OperatingPoint) -> float:
    """Return the standard deviation of an image's flops, as the manifest states the exits."""
    evaluated = [threshold <= 1 for threshold in point.thresholds]
    by_exit = [manifest.flops_of(k, evaluated) for k in range(1, manifest.exits + 1)]
    flops, shares = np.array(by_exit, np.float64), [share.value for share in point.exit_shares]
    return float(np.sqrt(max(0.0, np.dot(shares, flops**2) - point.mean_flops.value**2)))


def statements(
    manifest: Manifest, point: OperatingPoint, answers: Sequence[Served]
) -> list[Statement]:
    """Compare answers with the manifest, with intervals for that number of images."""
    held_out, new = manifest.held_out.images, len(answers)
    shares = [share.value for share in point.exit_shares]
    mean, std = point.mean_flops.value, deviation_of_flops(manifest, point)
    found = [
        Statement(
            "mean flops",
            float(np.mean([a.flops for a in answers])),
            estimate_mean(mean, std, held_out, new),
        ),
        Statement(
            "accuracy",
            float(np.mean([a.right[-1] for a in answers])),
            estimate_share(point.accuracy.value, held_out, new),
        ),
    ]
    for k, share in enumerate(shares, 1):
        seen = float(np.mean([a.exit == k for a in answers]))
        found.append(Statement(f"exit {k}", seen, estimate_share(share, held_out, new)))
    return found


def metrics_add_up(
    before: dict[str, float], after: dict[str, float], budget: str, answers: Sequence[Served]
) -> bool:
    """Return True if the server's counters of a budget grew by the client's own sums."""
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    exits = sum(
        value
        for name, value in grown.items()
        if name.startswith("offramp_exits_total") and f'budget="{budget}"' in name
    )
    spent = grown[f'offramp_flops_spent_total{{budget="{budget}"}}']
    return exits == len(answers) and spent == sum(a.flops for a in answers)


def print_table(budget: str, found: Sequence[Statement]) -> None:
    """Print one line for each statement."""
    for s in found:
        scale, unit = (1e-6, "M") if s.quantity == "mean flops" else (100, "%")
        low, value, high = (scale * x for x in (s.stated.low, s.stated.value, s.stated.high))
        print(
            f"{budget:7} {s.quantity:11} served {scale * s.seen:7.2f} {unit}   "
            f"manifest {value:7.2f} [{low:7.2f}, {high:7.2f}]   {'' if s.holds else 'OUT'}"
        )


def with_interval(share: float, images: int) -> str:
    """Return a share in percent with its 95 % interval."""
    low, high = wilson(share, images)
    return f"{100 * share:5.2f} % [{100 * low:.2f}, {100 * high:.2f}]"


def print_exits(manifest: Manifest, answers: Sequence[Served]) -> None:
    """Print the accuracy of each exit if every image left there and no other were evaluated."""
    for k in range(manifest.exits):
        share = float(np.mean([a.right[k] for a in answers]))
        flops = f"{manifest.flops_of(k + 1, [False] * manifest.exits) / 1e6:6.1f} M flops"
        print(f"exit {k + 1}  {flops}   accuracy {with_interval(share, len(answers))}")


def compare(url: str, manifest: Manifest, files: Sequence[File]) -> bool:
    """Print the table and return True if all statements hold."""
    all_hold = True
    for budget, point in track(manifest.budgets.items(), "budgets", transient=True):
        before = counters(url)
        answers = classify(url, files, {"budget": budget})
        found = statements(manifest, point, answers)
        adds_up = metrics_add_up(before, counters(url), budget, answers)
        print_table(budget, found)
        accuracy = float(np.mean([a.right[-1] for a in answers]))
        print(f"{budget:7} metrics     {'add up' if adds_up else 'DO NOT ADD UP'}")
        print(f"{budget:7} accuracy    {with_interval(accuracy, len(answers))}")
        all_hold &= adds_up and all(s.holds for s in found)
    print_exits(manifest, classify(url, files, {"budget": FULL, "explain": "true"}))
    return all_hold


def main() -> int:
    """Run the check and return 1 if a statement does not hold."""
    parser = argparse.ArgumentParser(
        description="Check that served answers agree with the manifest."
    )
    parser.add_argument("--bundle", type=Path, required=True, help="folder of the bundle")
    parser.add_argument("--data", required=True, help="hub name, parquet or folder of images")
    parser.add_argument("--split", default="test", help="split of the data")
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    files = load_files(arguments.data, arguments.split, manifest.labels)
    print(f"{manifest.name} {manifest.version}, {len(files):,} images of {arguments.split}")
    with serving(arguments.bundle) as url:
        all_hold = compare(url, manifest, files)
    print("every statement holds" if all_hold else "NOT every statement holds")
    return 0 if all_hold else 1


if __name__ == "__main__":
    sys.exit(main())
