"""Figures of every run, kept in a table, so that a comparison can be continued on another day."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.training.photos.static.costs import Answers
from benchmarks.training.photos.static.points import Operating, chain_points, static_point
from benchmarks.training.photos.static.rows import FULL
from training.evaluation.calibration_error import wilson

LAST = "full depth"
LESS = (0.5, 1.0)  # points of accuracy below full depth
Sets = tuple[Answers, Answers]  # held-out and test


@dataclass(frozen=True, slots=True)
class RunPoint:
    """What one run gives on its test images.

    Attributes:
        row: Name of the row.
        seed: Seed of the run, or its fold.
        point: `full depth`, `exit 1` and so on, or `within 0.5`: the fastest thresholds that are at
            most so many points below full depth on the held-out images.
        images: Number of test images.
        right: Those that it is right for.
        ms: Mean milliseconds of an image.
        flops: Mean multiply-adds of an image.
    """

    row: str
    seed: str
    point: str
    images: int
    right: int
    ms: float
    flops: float


def points_of_run(row: str, seed: str, sets: Sets) -> Iterator[RunPoint]:
    """Yield the points of a static network, or of a chain."""
    exits = len(sets[1].ms.flops)
    named = {f"exit {k + 1}": static_point(*sets, leave=k) for k in range(exits - 1)}
    named[LAST] = static_point(*sets)
    if exits > 1:
        named |= {f"within {less:g}": fastest_within(less, *sets) for less in LESS}
    for name, point in named.items():
        ms, flops = round(point.ms, 4), round(point.flops)
        yield RunPoint(row, seed, name, len(point.right), int(point.right.sum()), ms, flops)


def fastest_within(less: float, held_out: Answers, test: Answers) -> Operating:
    """Return the fastest point at most so many points below full depth on the held-out images."""
    least = float(held_out.ms.right[-1].mean()) - less / 100
    good = (point for point in chain_points(held_out, test) if point.expected >= least - 1e-9)
    return min(good, key=lambda point: point.expected_ms, default=static_point(held_out, test))


def merged(path: Path, points: Sequence[RunPoint]) -> list[RunPoint]:
    """Return the points, and those in a table of runs that are not among them."""
    new = {(point.row, point.seed) for point in points}
    old = read(path) if path.exists() else []
    return [*(point for point in old if (point.row, point.seed) not in new), *points]


def read(path: Path) -> list[RunPoint]:
    """Read a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            RunPoint(
                line["row"],
                line["seed"],
                line["point"],
                int(line["images"]),
                int(line["right"]),
                float(line["ms"]),
                float(line["flops"]),
            )
            for line in csv.DictReader(file)
        ]


def write(path: Path, points: Iterable[RunPoint]) -> None:
    """Write a table."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [each.name for each in fields(RunPoint)])
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)


def lines(points: Sequence[RunPoint], *, folds: bool) -> Iterator[str]:
    """Yield the mean of each point over its runs, and its difference to full depth alone.

    Args:
        points: Points of all runs.
        folds: Each run has test images of its own, as in a cross-validation.
    """
    named: dict[tuple[str, str], dict[str, RunPoint]] = {}
    for point in points:
        named.setdefault((point.row, point.point), {})[point.seed] = point
    alone = named.get((FULL, LAST), {})
    yield f"{'every run':28} runs   accuracy, % [95 %]      flops   ms    against {FULL} ± error"
    for (row, name), runs in named.items():
        yield f"{f'{row}, {name}':28} {_line(runs, alone, folds=folds)}"


def _line(runs: Mapping[str, RunPoint], alone: Mapping[str, RunPoint], *, folds: bool) -> str:
    images, right = (sum(getattr(p, name) for p in runs.values()) for name in ("images", "right"))
    tested = images if folds else images // len(runs)
    low, high = wilson(right / images, tested)
    cells = [f"{len(runs):4}   {right / images:.2%} [{low:.1%}, {high:.1%}] of {tested}"]
    both = [seed for seed in runs if seed in alone]
    if both:
        cells += [f"{_share(runs, alone, both, cost):4.0%}" for cost in ("flops", "ms")]
    differences = [100 * (_accuracy(runs[seed]) - _accuracy(alone[seed])) for seed in both]
    if len(both) > 1:
        error = np.std(differences, ddof=1) / np.sqrt(len(both))
        cells.append(f"{np.mean(differences):+.2f} ±{error:.2f} ({len(both)} runs)")
    return "   ".join(cells)


def _accuracy(point: RunPoint) -> float:
    return point.right / point.images


def _share(
    runs: Mapping[str, RunPoint], alone: Mapping[str, RunPoint], seeds: Sequence[str], cost: str
) -> float:
    own, full = (np.mean([getattr(of[seed], cost) for seed in seeds]) for of in (runs, alone))
    return float(own / full)
