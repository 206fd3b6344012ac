"""Measure audits of promises: false alarms, audits to an alarm, and what a safer point restores.

    python -m benchmarks.promises.audit --data cifar10 --out audit.csv

No server runs: the graphs of a bundle classify test images once, as they are, with noise, and
blurred. Audits are then drawn from these answers at random, and counted in the server's own ledger.
Each run of the first part audits as many clean answers as `--audits` says, at the promises of the
bundle, and at the largest disagreement that each still allows. Each run of the second part audits
`--before` clean answers, and corrupted ones from then on. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track

from benchmarks.goals import Goal, print_goals
from benchmarks.promises.alarms import SOON, Losses, at_losses, past_of
from benchmarks.serving.drift import corrupt, pixels_of
from exporter.bundle import read_bundle
from exporter.chain import Chain
from exporter.promises.certificate import Outputs, agreeing
from offramp.bundle.manifest import Manifest
from serving.audit.ledger import FULL_DEPTH, AuditedPromise, Kept, Ledger
from serving.engine.background.ladder import Ladder, ladders
from training.data.splits import load_files
from training.evaluation.evaluate import exits_taken

SHIPPED = Path("deploy/bundles/cifar10-msdnet")
QUIET = 0.95  # share of runs without an alarm
CLEARLY = 3  # times epsilon; at a smaller disagreement an alarm needs more than SOON audits
SIGMA = 0.2  # of the noise, of full scale
AFTER = 4000  # corrupted audits of a run, in which a promise can climb its ladder
CLEAN, NOISE, BLUR = "clean", "noise", "blur"


@dataclass(frozen=True, slots=True)
class Row:
    """Results of all runs for a promise and a kind of images.

    Attributes:
        promise: Label of the promise.
        images: Kind of images, or `worst`: as many losses as the promise allows.
        disagreement: Share of losses at the promise's own point.
        alarms: Share of runs with an alarm.
        audits: Median of the audits to the alarm, and the largest number.
        answered_by: Point that answers at the end of most runs.
        restored: Share of losses at this point.
    """

    promise: str
    images: str
    disagreement: float
    alarms: float
    median_audits: float = math.nan
    most_audits: float = math.nan
    answered_by: str = ""
    restored: float = math.nan


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
    """Classify test images of a bundle: as they are, with noise, and blurred."""
    manifest, graphs = read_bundle(bundle)
    files = [file.encoded for file in load_files(data, "test", manifest.labels)[:most]]
    chain, found = Chain(graphs), {}
    for kind in (CLEAN, NOISE, BLUR):
        pixels = np.stack([pixels_of(spoiled(each, k, kind)) for k, each in enumerate(files)])
        output = chain.run(torch.from_numpy(pixels))
        found[kind] = Answers(manifest, Outputs(output.confidence, output.classes))
    return manifest, found


def spoiled(encoded: bytes, number: int, kind: str) -> bytes:
    """Return an image of a kind. Noise is twice as strong as in `benchmarks.serving.drift`."""
    if kind != NOISE:
        return encoded if kind == CLEAN else corrupt(encoded, 4 * number)
    pixels = pixels_of(encoded)
    noise = np.random.default_rng(number).normal(0, SIGMA * 255, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def has_alarm(losses: Losses, promise: AuditedPromise) -> bool:
    """Return whether audits with these results find a promise broken."""
    wanted = -math.log(promise.alpha)
    return any(each.evidence(promise.epsilon) >= wanted for each in at_losses(losses))


def false_alarms(promise: AuditedPromise, clean: Losses, runs: int, audits: int) -> Iterator[Row]:
    """Yield the alarms on clean images, and at the largest disagreement that is promised."""
    rng = np.random.default_rng(0)
    for kind, share in ((CLEAN, float(clean.mean())), ("worst", promise.epsilon)):
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
    by_point = dict(zip(promise.ladder, ladder.thresholds, strict=True))
    losses = {name: answers[kind].losses(point) for name, point in by_point.items()}
    share = float(answers[CLEAN].losses(ladder.thresholds[0]).mean())
    firsts, ends = [], []
    for _ in track(range(runs), f"{promise.label} {kind}", transient=True):
        ledger = Ledger([promise])
        clean = past_of(share, before, rng)
        ledger.restore({promise.label: Kept(promise.ladder[0], broken=False, sequence=clean)})
        first = math.inf
        for number in range(1, AFTER + 1):
            point = promise.ladder[ledger.position(promise.label).point]
            if point == FULL_DEPTH:
                break
            loss = rng.choice(losses[point])
            moved = ledger.add(promise.label, point, "disagreement" if loss else "agreement")
            first = min(first, number) if moved else first
        firsts.append(first)
        ends.append(promise.ladder[ledger.position(promise.label).point])
    end = max(set(ends), key=ends.count)
    return Row(
        promise.label,
        kind,
        float(losses[promise.ladder[0]].mean()),
        float(np.isfinite(firsts).mean()),
        float(np.median(firsts)),
        max(firsts),
        end,
        max(float(losses[point].mean()) for point in set(ends)),
    )


def goals(rows: Sequence[Row], epsilons: Mapping[str, float], runs: int) -> Iterator[Goal]:
    """Yield the goals of all rows."""
    quiet = [row for row in rows if row.images in (CLEAN, "worst")]
    least = min(1 - row.alarms for row in quiet)
    text = f"no alarm in at least {QUIET:.0%} of {runs} runs on exchangeable images"
    yield Goal(text, f"{least:.1%}", least >= QUIET)
    spoilt = [
        row
        for row in rows
        if row.images in (NOISE, BLUR) and row.disagreement >= CLEARLY * epsilons[row.promise]
    ]
    slowest = max(row.most_audits for row in spoilt)
    yield Goal(
        f"alarm within {SOON} audits at {CLEARLY} epsilon and more, in each run",
        f"{slowest:.0f}",
        slowest <= SOON,
    )
    restored = all(row.restored <= epsilons[row.promise] for row in spoilt)
    text = "the point that answers in the end is within epsilon"
    yield Goal(text, f"{len(spoilt)} promises and kinds of images", restored)


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
    manifest, answers = answers_of(arguments.bundle, arguments.data, arguments.images)
    return report(manifest, answers, arguments)


def report(
    manifest: Manifest, answers: Mapping[str, Answers], arguments: argparse.Namespace
) -> int:
    """Print and write the rows, and return 1 if a goal is missed."""
    rows: list[Row] = []
    found = [ladder for ladder in ladders(manifest, "safer") if ladder.promise.judged]
    for ladder in found:
        clean = answers[CLEAN].losses(ladder.thresholds[0])
        rows += false_alarms(ladder.promise, clean, arguments.runs, arguments.audits)
        for kind in (NOISE, BLUR):
            rows.append(broken(ladder, answers, kind, arguments.runs, arguments.before))
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in asdict(row).items()))
    if arguments.out is not None:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(asdict(rows[0])), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
    epsilons = {ladder.promise.label: ladder.promise.epsilon for ladder in found}
    return print_goals(goals(rows, epsilons, arguments.runs))


if __name__ == "__main__":
    sys.exit(main())
