"""Measure audits of promises: false alarms, audits to an alarm, and what a safer point restores.

    python -m benchmarks.promises.audit --data cifar10 --out audit.csv

The graphs of a bundle classify test images once, as they are, with noise, and blurred. Audits of
random answers are then counted by the server's own rules. Each run of the first part has `--audits`
clean answers, at the promises of the bundle, and at the largest disagreement that each allows. Each
run of the second part has `--before` clean answers and up to 500 more, then corrupted ones. Exit
status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from benchmarks.corruptions import blurred, opened, png_of, with_noise
from benchmarks.goals import Goal, print_goals
from benchmarks.promises.alarms import SOON, Losses, at_losses, moves_of, past_of_change
from benchmarks.promises.audit_cost import SHIPPED
from exporter.bundle import read_bundle
from exporter.promises.certificate import Outputs, agreeing
from exporter.stages.runner import Chain
from offramp.bundle.manifest import Manifest
from serving.audit.standing import AuditedPromise
from serving.engine.background.ladder import Ladder, ladders
from training.data.splits import load_files
from training.evaluation.evaluate import exits_taken

MOST_RUNS = 0.95  # without an alarm on clean images, and with one soon on others
CLEARLY = 3  # times epsilon; at a smaller disagreement an alarm needs more than SOON audits
AFTER = 4000  # corrupted audits of a run, in which a promise can move on its ladder
CLEAN, WORST = "clean", "worst"
NOISE, BLUR = "noise", "blur"
SPOILED = {"noise 0.2": 0.2, "noise 0.3": 0.3, "blur 1": 1.0, "blur 2": 2.0}


@dataclass(frozen=True, slots=True)
class Row:
    """Results of all runs for a promise and a kind of images.

    Attributes:
        promise: Label of the promise.
        images: Kind of images, or `worst`: as many losses as the promise allows.
        disagreement: Share of losses at the promise's own point.
        alarms: Share of runs with an alarm.
        soon: Share of runs with one within `SOON` audits.
        median_audits: Median of the audits to the alarm.
        most_audits: Largest number of them.
        settled_audits: Median of the audits to the last move.
        answered_by: Point that answers at the end of most runs.
        restored: Share of losses at this point.
        within: Share of runs in which a point with at most epsilon answers at the end.
    """

    promise: str
    images: str
    disagreement: float
    alarms: float
    soon: float = math.nan
    median_audits: float = math.nan
    most_audits: float = math.nan
    settled_audits: float = math.nan
    answered_by: str = ""
    restored: float = math.nan
    within: float = math.nan


class Answers:
    """The answers of a bundle on images of one kind: whether they differ from full depth."""

    def __init__(self, manifest: Manifest, outputs: Outputs) -> None:
        self._scored = agreeing(manifest, outputs, np.arange(outputs.confidence.shape[1]))

    def losses(self, thresholds: Sequence[float]) -> Losses:
        """Return for each image whether the answer of an operating point differs."""
        taken = exits_taken(self._scored.confidence, np.array(thresholds))
        differ: Losses = ~self._scored.right[taken, np.arange(self._scored.images)]
        return differ


def answers_of(bundle: Path, data: str, most: int) -> tuple[Manifest, dict[str, Answers]]:
    """Classify test images of a bundle: as they are, and of each kind in `SPOILED`."""
    manifest, graphs = read_bundle(bundle)
    files = [file.encoded for file in load_files(data, "test", manifest.labels)[:most]]
    chain, found = Chain(graphs), {}
    for kind in (CLEAN, *SPOILED):
        images = [opened(spoiled(each, k, kind)) for k, each in enumerate(files)]
        pixels = np.stack([np.asarray(image) for image in images])
        output = chain.run(torch.from_numpy(pixels))
        found[kind] = Answers(manifest, Outputs(output.confidence, output.classes))
    return manifest, found


def spoiled(encoded: bytes, number: int, kind: str) -> bytes:
    """Return an image of a kind: as it is, or as PNG with noise or blur."""
    if kind == CLEAN:
        return encoded
    image, sigma = opened(encoded), SPOILED[kind]
    noisy = kind.startswith(NOISE)
    return png_of(with_noise(image, sigma, number) if noisy else blurred(image, sigma))


def has_alarm(losses: Losses, promise: AuditedPromise) -> bool:
    """Return whether audits with these results find a promise broken."""
    return any(each.exceeds(promise.epsilon, promise.alpha) for each in at_losses(losses))


def false_alarms(promise: AuditedPromise, clean: Losses, runs: int, audits: int) -> Iterator[Row]:
    """Yield the alarms on clean images, and at the largest disagreement that is promised."""
    rng = np.random.default_rng(0)
    for kind, share in ((CLEAN, float(clean.mean())), (WORST, promise.epsilon)):
        alarms = sum(
            has_alarm(rng.random(audits) < share, promise)
            for _ in track(range(runs), f"{promise.label} {kind}", transient=True)
        )
        yield Row(promise.label, kind, share, alarms / runs)


def broken(
    ladder: Ladder, answers: Mapping[str, Answers], kind: str, runs: int, before: int
) -> Row:
    """Audit clean answers, then corrupted ones, at the point that answers at that time."""
    rng, promise = np.random.default_rng(1), ladder.promise
    losses = np.array([answers[kind].losses(point) for point in ladder.thresholds])
    share = float(answers[CLEAN].losses(ladder.thresholds[0]).mean())
    firsts, lasts, ends = [], [], []
    for _ in track(range(runs), f"{promise.label} {kind}", transient=True):
        past = past_of_change(share, before, rng)
        drawn = rng.integers(losses.shape[1], size=AFTER)
        moves = [*moves_of(promise, past, losses[:, drawn])] or [(math.inf, 0)]
        firsts.append(moves[0][0])
        lasts.append(moves[-1][0])
        ends.append(moves[-1][1])
    end, shares = max(ends, key=ends.count), losses.mean(axis=1)
    return Row(
        promise.label,
        kind,
        float(shares[0]),
        float(np.isfinite(firsts).mean()),
        float((np.array(firsts) <= SOON).mean()),
        float(np.median(firsts)),
        max(firsts),
        float(np.median(lasts)),
        promise.ladder[end],
        float(shares[end]),
        float((shares[ends] <= promise.epsilon).mean()),
    )


def goals(rows: Sequence[Row], epsilons: Mapping[str, float], runs: int) -> Iterator[Goal]:
    """Yield the goals of all rows."""
    # A sample of clean images can differ more often than is promised. An alarm about it is right.
    kept = [row for row in rows if row.disagreement <= epsilons[row.promise]]
    least = min(1 - row.alarms for row in kept if row.images in (CLEAN, WORST))
    text = f"no alarm in at least {MOST_RUNS:.0%} of {runs} runs where the promise holds"
    yield Goal(text, f"{least:.1%}", least >= MOST_RUNS)
    spoilt = [
        row
        for row in rows
        if row.images in SPOILED and row.disagreement >= CLEARLY * epsilons[row.promise]
    ]
    if not spoilt:
        return  # no image is spoiled enough for this bundle
    least, slowest = min(row.soon for row in spoilt), max(row.most_audits for row in spoilt)
    text = f"alarm within {SOON} audits at {CLEARLY} epsilon and more, in {MOST_RUNS:.0%} of runs"
    yield Goal(text, f"{least:.1%}, {slowest:.0f} at most", least >= MOST_RUNS)
    least = min(row.within for row in spoilt)
    text = f"in the end a point within epsilon answers, in {MOST_RUNS:.0%} of runs"
    yield Goal(text, f"{least:.1%}", least >= MOST_RUNS)


def main(words: Sequence[str] | None = None) -> int:
    """Measure a bundle, write a CSV file, and return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", required=True, help="images that the bundle was made with")
    parser.add_argument("--images", type=int, default=10_000, help="test images of a kind (10000)")
    parser.add_argument("--runs", type=int, default=200, help="number of runs (200)")
    parser.add_argument("--audits", type=int, default=100_000, help="audits of a run (100000)")
    parser.add_argument(
        "--before", type=int, default=10_000, help="clean audits before corrupted ones (10000)"
    )
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args(words)
    return report(*answers_of(arguments.bundle, arguments.data, arguments.images), arguments)


def report(
    manifest: Manifest, answers: Mapping[str, Answers], arguments: argparse.Namespace
) -> int:
    """Print and write the rows, and return 1 if a goal is missed."""
    rows: list[Row] = []
    found = [ladder for ladder in ladders(manifest, "safer") if ladder.promise.judged]
    out = arguments.out or Path(os.devnull)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in measured(found, answers, arguments):
            rows.append(row)
            writer.writerow(asdict(row))
            file.flush()
            print("  ".join(f"{name} {value}" for name, value in asdict(row).items()), flush=True)
    epsilons = {ladder.promise.label: ladder.promise.epsilon for ladder in found}
    return print_goals(goals(rows, epsilons, arguments.runs))


def measured(
    found: Sequence[Ladder], answers: Mapping[str, Answers], arguments: argparse.Namespace
) -> Iterator[Row]:
    """Yield the rows of each promise."""
    for ladder in found:
        clean = answers[CLEAN].losses(ladder.thresholds[0])
        yield from false_alarms(ladder.promise, clean, arguments.runs, arguments.audits)
        for kind in SPOILED:
            yield broken(ladder, answers, kind, arguments.runs, arguments.before)


if __name__ == "__main__":
    sys.exit(main())
