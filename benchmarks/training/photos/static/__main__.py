"""Compare static networks with chains, by accuracy against milliseconds and flops.

A static network runs as a whole for each image: at full size, on smaller images, with a trunk that
ends early (`--cuts`), or another network (`--network`). Each is trained alone. All rows have the
same recipe, split and seeds. `pair` is the best chain of two static networks at each time, with
nothing trained for it. `exits` and `small-first` are trained as chains.

    python -m benchmarks.training.photos.static --data my/photos --runs runs/static \
        --out results/static --recipe photos-quick --options "--held-out 500" --seeds 3 \
        --network mobilenetv2="--backbone timm:mobilenetv2_100 --weights hub"

With the recipe `photos-quick` (default) trunks stay frozen, and heads are trained on features that
are computed once: minutes for a row. With `photos` the networks are fine-tuned: hours. Cut trunks
need `photos`, because frozen shallow features are poor.

With `cifar-comparison` or `cifar-compact` the static networks are MSDNets with the layers up to
each exit, trained alone, and the chains have the recipe's objective, without and with surgery.

Thresholds, and the pair at each time, are chosen on held-out images. Accuracy is that on the test
split. With `--data 'folds/fold{seed}.csv'` (`benchmarks.training.photos.folds`) each seed has test
images of its own, so that all images are tested. Milliseconds are CPU time of ONNX Runtime with
one thread and one image on this machine. Finished runs are not trained again, and interrupted runs
are resumed. The figures of each run are added to OUT/static-runs.csv, so that the folds can be
trained on different days.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import permutations
from pathlib import Path

from benchmarks.training.comparison import SEED, Plan
from benchmarks.training.objectives import trained_runs
from benchmarks.training.photos.static import runs_table
from benchmarks.training.photos.static.costs import joined, stage_costs, with_costs
from benchmarks.training.photos.static.options import build_parser, choice_of
from benchmarks.training.photos.static.plot import figure
from benchmarks.training.photos.static.points import (
    BySeed,
    Operating,
    Point,
    along,
    best_points,
    chain_points,
    mean_point,
    static_point,
)
from benchmarks.training.photos.static.rows import FULL, rows_of
from benchmarks.training.predictions import Trained
from exporter.stages.times import machine
from training.output_folder import CHECKPOINT
from training.recipes import RECIPES

PAIR = "pair"
BySeedAndRow = Mapping[str, Mapping[str, runs_table.Sets]]  # by row, then by seed


def answers_of(trained: Sequence[Trained], runs: Path) -> BySeedAndRow:
    """Return the answers of all runs with their costs, measured on one seed of each row."""
    found: dict[str, dict[str, runs_table.Sets]] = {}
    for row in dict.fromkeys(run.row for run in trained):
        own = [run for run in trained if run.row == row]
        costs = stage_costs(runs / row / own[0].seed / CHECKPOINT)
        found[row] = {
            run.seed: (with_costs(run.held_out, costs), with_costs(run.test, costs)) for run in own
        }
    return found


def pairs(static: BySeedAndRow, seed: str) -> Iterator[Operating]:
    """Yield the points of all chains of two static networks of one seed, the faster one first."""
    own = [seeds[seed] for seeds in static.values() if seed in seeds]
    for first, second in permutations(own, 2):
        if first[0].ms.full_flops < second[0].ms.full_flops:
            yield from chain_points(joined(first[0], second[0]), joined(first[1], second[1]))


def points_of(static: BySeedAndRow, chains: BySeedAndRow, *, folds: bool = False) -> list[Point]:
    """Return the points of all rows, and of the pairs of static networks."""
    alone = {
        row: {seed: static_point(*sets) for seed, sets in seeds.items()}
        for row, seeds in static.items()
    }
    full: BySeed = alone[FULL]
    found = [mean_point(row, "static", seeds, full, folds=folds) for row, seeds in alone.items()]
    found += [mean_point(n, "exit", each, full, folds=folds) for n, each in _exits(chains)]
    fronts = {
        row: {seed: best_points(chain_points(*sets)) for seed, sets in seeds.items()}
        for row, seeds in chains.items()
    }
    if len(static) > 1:
        fronts[PAIR] = {seed: best_points(pairs(static, seed)) for seed in full}
    for row, seeds in fronts.items():
        found += [mean_point(row, "chain", each, full, folds=folds) for each in along(seeds)]
    return found


def _exits(chains: BySeedAndRow) -> Iterator[tuple[str, BySeed]]:
    """Yield the name of each exit of the chains, and its point by seed."""
    for row, seeds in chains.items():
        for k in range(len(next(iter(seeds.values()))[1].ms.flops)):
            found = {seed: static_point(*sets, leave=k) for seed, sets in seeds.items()}
            yield f"{row}, exit {k + 1}", found


def cheapest(points: Sequence[Point], row: str, less: float, cost: str) -> Point | None:
    """Return the cheapest point of a row that is at most so many points below full size."""
    good = [each for each in points if each.row == row and each.against_full >= -less]
    return min(good, key=lambda each: float(getattr(each, cost)), default=None)


def print_table(points: Sequence[Point]) -> None:
    """Print static networks, exits, and the cheapest points of chains near full size."""
    full = next(point for point in points if point.row == FULL)
    print(f"\n{full.images} test images, {full.seeds} seeds, {machine()}, one thread")
    print(f"{'row':20} {'ms':>6} {'M flops':>8}  accuracy, % [95 %]     against {FULL} ± error")
    for point in points:
        if point.kind != "chain":
            print(_line(point.row, point))
    for row in dict.fromkeys(point.row for point in points if point.kind == "chain"):
        for less in runs_table.LESS:
            found = cheapest(points, row, less, "ms")
            name = f"{row}, -{less:g}"
            if found is None:
                print(f"{name:20} never")
                continue
            shares = f"{found.ms / full.ms:.0%} of ms, {found.flops / full.flops:.0%} of flops"
            print(f"{_line(name, found)}  {shares}")


def _line(name: str, point: Point) -> str:
    interval = f"[{100 * point.low:.1f}, {100 * point.high:.1f}]"
    return (
        f"{name:20} {point.ms:6.2f} {point.flops / 1e6:8.1f}  {100 * point.accuracy:6.2f} "
        f"{interval:14} {point.against_full:+6.2f} ±{point.error:.2f}"
    )


def write(folder: Path, points: Sequence[Point], title: str) -> None:
    """Write the points as `static.csv`, and the plot as `static.svg` and `static.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "static.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [each.name for each in fields(Point)])
        writer.writeheader()
        for point in points:
            row = asdict(point)
            writer.writerow({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
    for ending in ("png", "svg"):
        figure(points, title).savefig(folder / f"static.{ending}", dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a user's error."""
    parser = build_parser(__doc__.partition("\n")[0])
    given = parser.parse_args(argv)
    static, chains = rows_of(RECIPES[given.recipe], choice_of(given))
    if given.rows is not None:
        if unknown := {*given.rows} - {row.name for row in (*static, *chains)}:
            parser.error(f"--rows: there is no row {', '.join(sorted(unknown))}")
        static, chains = ([r for r in rows if r.name in given.rows] for rows in (static, chains))
    trained = trained_runs([*static, *chains], Plan(given.data, given.recipe, given.options), given)
    if trained is None:
        return 1
    return report(trained, [row.name for row in static], [row.name for row in chains], given)


def report(
    trained: Sequence[Trained],
    static: Sequence[str],
    chains: Sequence[str],
    given: argparse.Namespace,
) -> int:
    """Measure the costs of all rows, and write and print the results. Return the exit status."""
    order = [*static, *chains]
    ordered = sorted(
        (run for run in trained if run.row in order), key=lambda run: order.index(run.row)
    )
    if not any(run.row == FULL for run in ordered):
        print(f"error: --runs: no run of {FULL} is finished", file=sys.stderr)
        return 1
    found = answers_of(ordered, given.runs)
    points = points_of(
        {row: found[row] for row in static if row in found},
        {row: found[row] for row in chains if row in found},
        folds=SEED in given.data,
    )
    title = f"{given.recipe}, {points[0].images} test images, {points[0].seeds} seeds, {machine()}"
    write(given.out, points, title)
    print_table(points)
    print_runs(found, given.out / "static-runs.csv", folds=SEED in given.data)
    return 0


def print_runs(answers: BySeedAndRow, path: Path, *, folds: bool) -> None:
    """Add the figures of all runs to a table, and print the means of its rows."""
    new = [
        point
        for row, seeds in answers.items()
        for seed, sets in seeds.items()
        for point in runs_table.points_of_run(row, seed, sets)
    ]
    points = runs_table.merged(path, new)
    runs_table.write(path, points)
    print("", *runs_table.lines(points, folds=folds), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
