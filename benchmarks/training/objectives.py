"""Compare the accuracy of training objectives.

All rows are trained with one recipe. A row differs from its baseline only in the option that it is
named after. The table has the accuracy of each exit on the test images, as mean and deviation over
seeds. Below it are the mean differences to the baseline with the same seed, on the test images and
on the held-out images. Only the held-out images decide which rows to adopt and which goals are
met. They were used for no other choice here. Finished runs are not trained again, and interrupted
runs are resumed.

    python -m benchmarks.training.objectives --data cifar10 --runs runs/objectives \
        --out results --jobs 2
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.goals import Goal, print_goals
from benchmarks.timing import positive_int
from benchmarks.training.comparison import ROWS, VARIATIONS, Plan, Row, runs_of, train_all
from benchmarks.training.predictions import Trained, read_all
from offramp.cores import cores
from training.errors import TrainingError
from training.recipes import RECIPES

JOINT = "joint"
DFS = "dfs-released"  # the default of `--variant`
FIRST_EXIT_GAIN = 2.0  # goal of DFS at exit 1, in points

# By row, then by seed: accuracy of each exit in percent, [exits].
Accuracies = Mapping[str, Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Results:
    """Accuracies on both sets, and their numbers of images."""

    test: Accuracies
    held_out: Accuracies
    test_images: int
    held_out_images: int


def accuracies(trained: Sequence[Trained]) -> Results:
    """Return the accuracies of every run."""
    test: dict[str, dict[str, NDArray[np.float64]]] = {}
    held_out: dict[str, dict[str, NDArray[np.float64]]] = {}
    for run in trained:
        test.setdefault(run.row, {})[run.seed] = 100 * run.test.right.mean(axis=1)
        held_out.setdefault(run.row, {})[run.seed] = 100 * run.held_out.right.mean(axis=1)
    return Results(test, held_out, trained[0].test.images, trained[0].held_out.images)


def gains(measured: Accuracies, row: Row) -> NDArray[np.float64]:
    """Return the points above the baseline, [seeds that both have, exits]."""
    baseline, own = measured.get(row.against, {}), measured[row.name]
    return np.array([own[seed] - baseline[seed] for seed in own if seed in baseline])


def print_table(results: Results, rows: Sequence[Row]) -> None:
    """Print three lines for each row that has runs, then the rows to adopt."""
    images = f"{results.test_images:,} test images"
    print(f"\naccuracy of each exit, %, on {images}; deviation over seeds")
    for row in rows:
        if row.name not in results.test:
            continue
        runs = np.array(list(results.test[row.name].values()))
        cells = [
            f"{mean:6.2f}" + (f" ±{deviation:4.2f}" if len(runs) > 1 else " " * 6)
            for mean, deviation in zip(runs.mean(0), _deviation(runs), strict=True)
        ]
        print(f"{row.name:28} {len(runs)} seeds  " + "  ".join(cells))
        for name, measured in (("test", results.test), ("held-out", results.held_out)):
            if row.name != row.against and len(difference := gains(measured, row)):
                cells = [f"{points:+6.2f}      " for points in difference.mean(0)]
                print(f"{'  ' + name + ', against ' + row.against:38}" + "  ".join(cells))
    named = ", ".join(f"{row.name} ({n} seeds)" for row, n in adopted(results.held_out, rows))
    print(
        "adopt (above the baseline at every exit, mean over seeds, on "
        f"{results.held_out_images:,} held-out images): {named or 'no row'}"
    )


def adopted(held_out: Accuracies, rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Return the rows with a gain at every exit, each with its number of seeds."""
    gained = [(row, gains(held_out, row)) for row in rows if row.name in held_out]
    return [(row, len(each)) for row, each in gained if len(each) and (each.mean(axis=0) > 0).all()]


def _deviation(runs: NDArray[np.float64]) -> NDArray[np.float64]:
    return runs.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(runs.shape[1])


def write(folder: Path, results: Results, rows: Sequence[Row]) -> None:
    """Write accuracies as `objectives.csv` and gains as a plot."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "objectives.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "exit", "test_accuracy", "held_out_accuracy"])
        for name, seeds in sorted(results.test.items()):
            for seed, exits in sorted(seeds.items()):
                pairs = zip(exits, results.held_out[name][seed], strict=True)
                for k, pair in enumerate(pairs, 1):
                    writer.writerow([name, seed, k, *(round(float(a) / 100, 6) for a in pair)])
    for ending in ("png", "svg"):
        figure(results.test, rows).savefig(folder / f"objectives.{ending}", dpi=150)


def figure(measured: Accuracies, rows: Sequence[Row]) -> Figure:
    """Plot the points that each row gains at each exit. Dots are seeds, bars are means."""
    drawn = [row for row in rows if row.name in measured and row.name != row.against]
    drawn = [row for row in drawn if len(gains(measured, row))]
    plot = Figure(figsize=(8, 1 + 0.5 * len(drawn)), layout="constrained")
    axes = plot.subplots()
    for place, row in enumerate(drawn):
        points = gains(measured, row)
        exits = points.shape[1]
        for k in range(exits):
            height = place + 0.8 * ((k + 0.5) / exits - 0.5)
            label = f"exit {k + 1}" if place == 0 else None
            axes.barh(height, points[:, k].mean(), 0.8 / exits, color=f"C{k}", label=label)
            axes.plot(points[:, k], np.full(len(points), height), "k.", markersize=3)
    names = [f"{row.name} against {row.against}" for row in drawn]
    axes.set_yticks(range(len(drawn)), names)
    axes.invert_yaxis()
    axes.set(xlabel="points of test accuracy gained; dots are seeds")
    axes.axvline(0, color="k", linewidth=0.8)
    if drawn:
        axes.legend()
    return plot


def goals(held_out: Accuracies) -> list[Goal]:
    """Return the goals of DFS, from the paper's results."""
    if DFS not in held_out or not len(gained := gains(held_out, Row(DFS, "", against=JOINT))):
        return []
    means = gained.mean(axis=0)
    figure = (
        ", ".join(f"{points:+.2f}" for points in means)
        + f" points on held-out images, {len(gained)} seeds"
    )
    return [
        Goal(f"{DFS} is above {JOINT} at every exit", figure, bool((means > 0).all())),
        Goal(
            f"{DFS} gains {FIRST_EXIT_GAIN} points at exit 1",
            figure,
            bool(means[0] >= FIRST_EXIT_GAIN),
        ),
    ]


def build_parser(*, add_help: bool = True) -> argparse.ArgumentParser:
    """Return the command-line parser, without `--help` as a part of another parser."""
    parser = argparse.ArgumentParser(
        add_help=add_help,
        description="Compare the accuracy of training objectives.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option, required = parser.add_argument, argparse.SUPPRESS
    folder = Path("runs/objectives")
    option("--runs", type=Path, default=folder, help="folder of trained runs")
    option("--data", default="cifar10", help="images, as for `python -m training`")
    option("--recipe", choices=RECIPES, default=Plan().recipe, help="recipe of all runs")
    option("--options", default="", help="more options of all runs, such as '--epochs 20'")
    option("--out", type=Path, required=True, default=required, help="folder for tables and plots")
    option("--jobs", type=positive_int, default=cores(), help="runs at the same time")
    option("--variations", action="store_true", help="include rows that explain DFS")
    option("--no-training", action="store_true", help="use only runs that are finished")
    return parser


def trained_runs(
    rows: Sequence[Row], plan: Plan, arguments: argparse.Namespace
) -> list[Trained] | None:
    """Train what is not finished, and read all finished runs. Print an error and return `None`.

    Args:
        rows: Rows to train.
        plan: Settings of all runs.
        arguments: `runs`, `jobs` and `no_training` of the command.
    """
    try:
        if not arguments.no_training:
            train_all(runs_of(rows), arguments.runs, plan, arguments.jobs)
        found, names = read_all(arguments.runs, plan.one_source), [row.name for row in rows]
        if not any(run.row in names for run in found):
            raise TrainingError(f"{arguments.runs}: no finished run of {', '.join(names)}")
        return found
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(error.cmd)}: see output.txt of the run", file=sys.stderr)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a missed goal or a user's error."""
    arguments = build_parser().parse_args(argv)
    rows = ROWS + (VARIATIONS if arguments.variations else ())
    plan = Plan(arguments.data, arguments.recipe, arguments.options)
    trained = trained_runs(rows, plan, arguments)
    if trained is None:
        return 1
    results = accuracies(trained)
    write(arguments.out, results, rows)
    print_table(results, rows)
    return print_goals(goals(results.held_out))


if __name__ == "__main__":
    sys.exit(main())
