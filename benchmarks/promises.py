"""Measure how often certified promises break, and count the images that promises take.

    python -m benchmarks.promises --data cifar10 --out coverage.csv
    python -m benchmarks.promises --table

The held-out and test images of a bundle are the population. Each draw takes images from it with
replacement, as many as the bundle holds out, chooses a path on one part and certifies on the other,
as the exporter does. A promise is broken if the share of losses in the whole population is above
epsilon. Beside it stands a threshold that is read off the mean: the cheapest point of the same path
whose losses on the same images are at most epsilon.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from exporter.bundle import read_bundle
from exporter.chain import Chain
from exporter.promises.certificate import Outputs, Wanted, agreeing, divide, images_wanted
from exporter.promises.path import RiskPath, solve_path
from exporter.promises.sequence import last_certified
from exporter.recalibrate import own_files
from offramp.bundle.binomial import images_needed, p_value
from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import Level
from training.data.datasets import load_split
from training.evaluation.evaluate import Scored, exits_taken

SHIPPED = Path("deploy/bundles/cifar10-msdnet")
EPSILONS = (0.005, 0.01, 0.02, 0.03, 0.05)
DELTA = 0.05
TABLE = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Results of a rule over all draws, at one epsilon.

    Attributes:
        offered: Share of the draws in which it gave a point.
        broken: Share of the draws in which this point loses more than epsilon.
        flops: Mean flops of the points, as a share of full depth.
    """

    offered: float
    broken: float
    flops: float


class Population:
    """The images that draws are taken from, with the true share of losses of any thresholds."""

    def __init__(self, manifest: Manifest, outputs: Outputs) -> None:
        self._scored = agreeing(manifest, outputs, np.arange(outputs.confidence.shape[1]))
        self.images = self._scored.images

    def draw(self, rng: np.random.Generator, images: int) -> Scored:
        """Return images drawn with replacement."""
        rows = rng.integers(0, self.images, images)
        scored = self._scored
        return replace(scored, confidence=scored.confidence[:, rows], right=scored.right[:, rows])

    def truth(self, thresholds: NDArray[np.float64]) -> tuple[float, float]:
        """Return the share of losses, and the mean flops as a share of full depth."""
        return losses_and_flops(self._scored, thresholds)


def losses_and_flops(scored: Scored, thresholds: NDArray[np.float64]) -> tuple[float, float]:
    """Return the share of losses on images, and the mean flops as a share of full depth."""
    taken = exits_taken(scored.confidence, thresholds)
    lost = ~scored.right[taken, np.arange(scored.images)]
    flops = scored.flops_evaluating(thresholds <= 1)[taken].mean()
    return float(lost.mean()), float(flops / scored.full_flops)


class Rules:
    """The two rules on a path: certified, and read off the mean."""

    def __init__(self, path: RiskPath, certify: Scored) -> None:
        self._path, self._images = path, certify.images
        measured = [losses_and_flops(certify, thresholds) for thresholds in path.thresholds]
        self._shares, self._flops = np.array(measured).T

    def certified(self, epsilon: float) -> NDArray[np.float64] | None:
        """Return the thresholds of the certified point, or `None`."""
        counts = np.rint(self._shares * self._images).astype(int).tolist()
        last = last_certified((p_value(k, self._images, epsilon) for k in counts), DELTA)
        return None if last is None else self._cheapest(np.arange(last + 1))

    def mean(self, epsilon: float) -> NDArray[np.float64] | None:
        """Return the thresholds of the point whose mean is at most epsilon, or `None`."""
        allowed = np.flatnonzero(self._shares <= epsilon)
        return self._cheapest(allowed) if len(allowed) else None

    def _cheapest(self, points: NDArray[np.int64]) -> NDArray[np.float64]:
        thresholds: NDArray[np.float64] = self._path.thresholds[
            points[self._flops[points].argmin()]
        ]
        return thresholds


def coverage(
    population: Population, images: int, draws: int
) -> Iterator[tuple[float, str, Coverage]]:
    """Yield the coverage of both rules at each epsilon."""
    rng = np.random.default_rng(0)
    seen: dict[tuple[float, str], list[tuple[float, float]]] = {}
    for _ in track(range(draws), "drawing", transient=True):
        everything = population.draw(rng, images)
        parts = divide(images, 0)
        tune, certify = (_rows(everything, rows) for rows in (parts.tuned, parts.certified))
        rules = Rules(solve_path(tune), certify)
        for epsilon in EPSILONS:
            points = {"certified": rules.certified(epsilon), "mean": rules.mean(epsilon)}
            for rule, point in points.items():
                found = seen.setdefault((epsilon, rule), [])
                if point is not None:
                    found.append(population.truth(point))
    for (epsilon, rule), found in seen.items():
        broken = sum(share > epsilon for share, _ in found)
        flops = float(np.mean([flops for _, flops in found])) if found else math.nan
        yield epsilon, rule, Coverage(len(found) / draws, broken / draws, flops)


def _rows(scored: Scored, rows: NDArray[np.int64]) -> Scored:
    mask = np.zeros(scored.images, dtype=bool)
    mask[rows] = True
    return scored.select(mask)


def outputs_of(bundle: Path, data: str) -> tuple[Manifest, Outputs]:
    """Run a bundle on its held-out images and on the test images."""
    manifest, graphs = read_bundle(bundle)
    size = manifest.input.height
    sets = [own_files(manifest, data).held_out, load_split(data, "test", size, manifest.labels)]
    found = [Chain(graphs).run(files.decoded().pixels) for files in sets]
    confidence = np.concatenate([each.confidence for each in found], axis=1)
    return manifest, Outputs(confidence, np.concatenate([each.classes for each in found], axis=1))


def table() -> Iterator[str]:
    """Yield the lines of a table of the images that a promise takes."""
    yield "| promise | alone: no loss | half the losses | one of three: no loss | half the losses |"
    yield "|---|---|---|---|---|"
    for epsilon in TABLE:
        level = Level("agreement", epsilon)
        cells = []
        for at_once in (1, 3):
            wanted = Wanted((level,) * at_once, DELTA)
            losses = _half_as_frequent(wanted, epsilon)
            cells += [images_wanted(wanted, level), images_wanted(wanted, level, losses)]
        yield f"| {level} | " + " | ".join(f"{cell:,}" for cell in cells) + " |"


def _half_as_frequent(wanted: Wanted, epsilon: float) -> int:
    """Return the fewest losses that certify while they are half as frequent as promised."""
    losses = 0
    while losses < images_needed(epsilon, wanted.level, losses) * epsilon / 2:
        losses += 1
    return losses


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, or measure one bundle and write a CSV file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="print how many images it takes")
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", help="images that the bundle was made with")
    parser.add_argument("--draws", type=int, default=1000, help="number of draws (1000)")
    parser.add_argument("--out", type=Path, help="CSV file to write")
    arguments = parser.parse_args(words)
    if arguments.table:
        print(*table(), sep="\n")
        return
    if not arguments.data:
        parser.error("give --data or --table")
    report(*outputs_of(arguments.bundle, arguments.data), arguments.draws, arguments.out)


def report(manifest: Manifest, outputs: Outputs, draws: int, out: Path | None) -> None:
    """Print the coverage, and write it to a file if one is given."""
    population, images = Population(manifest, outputs), manifest.held_out.images
    bound = DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / draws)
    print(f"{manifest.name} {manifest.version}: {draws:,} draws of {images:,} images from")
    print(f"{population.images:,}; delta {DELTA}, allowed with 2 standard errors {bound:.4f}")
    rows = [
        {
            "epsilon": epsilon,
            "rule": rule,
            "offered": round(each.offered, 4),
            "broken": round(each.broken, 4),
            "flops_share": round(each.flops, 4),
            "draws": draws,
        }
        for epsilon, rule, each in coverage(population, images, draws)
    ]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
