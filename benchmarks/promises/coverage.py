"""Measure how often certified promises break, and count the images that promises take.

    python -m benchmarks.promises.coverage --data cifar10 --out docs/results/promises.csv
    python -m benchmarks.promises.coverage --table

The held-out and test images of a bundle are the population. Each draw takes images from it with
replacement, as many as the bundle holds out, chooses a path on one part and certifies on the other,
as the exporter does. A promise is broken if the share of losses in the whole population is above
epsilon: of all answers, or of the answers of any exit. Beside it stands a threshold that is read
off the mean: the cheapest point of the same path whose losses on the same images are at most
epsilon. `--out` also draws a plot, with the suffix .png.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import track

from exporter.budgets.path import solve_path
from exporter.bundle import read_bundle
from exporter.promises.certificate import Outputs, agreeing
from exporter.promises.points import Points, least_at_an_exit, with_many_at_each_exit
from exporter.promises.wanted import Wanted, divide, images_wanted
from exporter.recalibrate import own_files
from exporter.stages.runner import Chain
from offramp.bundle.binomial import images_needed
from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import Kind, Level
from training.data.splits import load_split
from training.evaluation.evaluate import Scored

SHIPPED = Path("deploy/bundles/cifar10-msdnet")
KINDS: tuple[Kind, ...] = ("agreement", "exit")
EPSILONS = (0.005, 0.01, 0.02, 0.03, 0.05)
LEVELS = tuple(Level(kind, epsilon) for kind in KINDS for epsilon in EPSILONS)
DELTA = 0.05
TABLE = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
TITLES = {"agreement": "of all answers", "exit": "of the answers of each exit"}
Thresholds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Results of a rule over all draws, for one promise.

    Attributes:
        level: The promise.
        rule: `certified`, or `mean`.
        offered: Share of the draws in which it gave a point that is not full depth.
        broken: Share of the draws in which this point loses more than epsilon.
        flops: Mean flops of the points, as a share of full depth.
    """

    level: Level
    rule: str
    offered: float
    broken: float
    flops: float


def draw(scored: Scored, rng: np.random.Generator, images: int) -> Scored:
    """Return images drawn with replacement."""
    return _rows(scored, rng.integers(0, scored.images, images))


def _rows(scored: Scored, rows: NDArray[np.int64]) -> Scored:
    return Scored(scored.confidence[:, rows], scored.right[:, rows], scored.flops, scored.heads)


def points_for(level: Level, tune: Scored, path: Thresholds, certify: Scored) -> Points:
    """Return the points of a path for a promise, with their losses on the images that certify."""
    if level.kind == "exit":
        least = least_at_an_exit(level, DELTA, certify.images)
        path = with_many_at_each_exit(tune, path, least)
    return Points(certify, ~certify.right, path)


def chosen(scored: Scored, images: int) -> Iterator[tuple[Level, str, Thresholds | None]]:
    """Yield the thresholds that each rule chooses for each promise, or `None` for full depth."""
    parts = divide(images, 0)
    tune, certify = (_rows(scored, rows) for rows in (parts.tuned, parts.certified))
    path = solve_path(tune).thresholds()
    marginal = Points(certify, ~certify.right, path)
    for level in LEVELS:
        points = marginal
        if level.kind == "exit":
            points = points_for(level, tune, path, certify)
        rules = {"certified": points.cheapest(level, DELTA), "mean": by_mean(points, level)}
        for rule, best in rules.items():
            yield level, rule, points.thresholds[best] if best else None


def by_mean(points: Points, level: Level) -> int:
    """Return the cheapest point whose share of losses is at most epsilon."""
    allowed = np.flatnonzero(worst_share(points, level.kind) <= level.epsilon)
    return int(allowed[points.flops[allowed].argmin()])


def worst_share(points: Points, kind: Kind) -> NDArray[np.float64]:
    """Return the share of losses of each point: of all answers, or of the worst exit's."""
    losses, images = points.losses, points.images
    if kind == "agreement":
        losses, images = losses.sum(axis=1, keepdims=True), images.sum(axis=1, keepdims=True)
    worst: NDArray[np.float64] = (losses / np.maximum(images, 1)).max(axis=1)
    return worst


def coverage(population: Scored, images: int, draws: int) -> Iterator[Coverage]:
    """Yield the coverage of both rules for each promise."""
    rng = np.random.default_rng(0)
    seen: dict[tuple[Level, str], list[tuple[float, float]]] = {}
    for _ in track(range(draws), "drawing", transient=True):
        for level, rule, thresholds in chosen(draw(population, rng, images), images):
            found = seen.setdefault((level, rule), [])
            if thresholds is not None:
                truth = Points(population, ~population.right, thresholds[None])
                found.append((worst_share(truth, level.kind)[0], truth.flops[0]))
    for (level, rule), found in seen.items():
        shares, flops = np.array(found).reshape(-1, 2).T
        broken = float((shares > level.epsilon).sum()) / draws
        cost = float(flops.mean() / population.full_flops) if found else math.nan
        yield Coverage(level, rule, len(found) / draws, broken, cost)


def population_of(bundle: Path, data: str) -> tuple[Manifest, Scored]:
    """Run a bundle on its held-out images and on the test images."""
    manifest, graphs = read_bundle(bundle)
    size = manifest.input.height
    sets = [own_files(manifest, data).held_out, load_split(data, "test", size, manifest.labels)]
    found = [Chain(graphs).run(files.decoded().pixels) for files in sets]
    confidence = np.concatenate([each.confidence for each in found], axis=1)
    outputs = Outputs(confidence, np.concatenate([each.classes for each in found], axis=1))
    return manifest, agreeing(manifest, outputs, np.arange(confidence.shape[1]))


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
    """Print the table, or measure one bundle and write a CSV file and a plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", action="store_true", help="print how many images it takes")
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help=f"the bundle ({SHIPPED})")
    parser.add_argument("--data", help="images that the bundle was made with")
    parser.add_argument("--draws", type=int, default=1000, help="number of draws (1000)")
    parser.add_argument("--out", type=Path, help="CSV file to write, with a plot beside it")
    arguments = parser.parse_args(words)
    if arguments.table:
        print(*table(), sep="\n")
        return
    if not arguments.data:
        parser.error("give --data or --table")
    report(*population_of(arguments.bundle, arguments.data), arguments.draws, arguments.out)


def allowed(draws: int) -> float:
    """Return delta with two standard errors of a share of so many draws."""
    return DELTA + 2 * math.sqrt(DELTA * (1 - DELTA) / draws)


def report(manifest: Manifest, population: Scored, draws: int, out: Path | None) -> None:
    """Print the coverage, and write it to a file and a plot if one is given."""
    images = manifest.held_out.images
    print(f"{manifest.name} {manifest.version}: {draws:,} draws of {images:,} images from")
    print(f"{population.images:,}; delta {DELTA}, allowed with 2 errors {allowed(draws):.4f}")
    found = list(coverage(population, images, draws))
    rows = [
        {
            "kind": each.level.kind,
            "epsilon": each.level.epsilon,
            "rule": each.rule,
            "offered": round(each.offered, 4),
            "broken": round(each.broken, 4),
            "flops_share": round(each.flops, 4),
            "draws": draws,
        }
        for each in found
    ]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if out is not None:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        plot(found, draws).savefig(out.with_suffix(".png"), dpi=120)


def plot(found: Sequence[Coverage], draws: int) -> Figure:
    """Plot the share of broken promises against epsilon, for each kind and both rules."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, kind in zip(figure.subplots(1, len(KINDS), sharey=True), KINDS, strict=True):
        for rule, marker in (("certified", "o"), ("mean", "x")):
            points = [each for each in found if (each.level.kind, each.rule) == (kind, rule)]
            label = "certified" if rule == "certified" else "read off the mean"
            x = [100 * each.level.epsilon for each in points]
            axes.plot(x, [100 * each.broken for each in points], marker=marker, label=label)
        axes.axhline(100 * allowed(draws), color="0.6", linestyle="--", label="allowed")
        axes.set(title=TITLES[kind], xlabel="promised: losses of at most, %")
        axes.grid(alpha=0.3)
    axes.set_ylim(bottom=0)  # of both, which share it
    figure.axes[0].set_ylabel(f"broken promises, % of {draws:,} draws")
    figure.axes[0].legend()
    return figure


if __name__ == "__main__":
    main()
