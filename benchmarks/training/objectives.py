"""What does each objective bring?

Every row is trained by one recipe and differs from the row it is compared
with in what it is named after alone. The table has the accuracy of each exit on the test
images, mean and deviation over seeds, and below it the mean difference to the row it is
compared with, seed by seed, on the test images and on the held-out ones. What is to be adopted,
and whether goals are met, is decided on the held-out images alone; they chose nothing else that
counts here. Runs that are there already are not trained again, and interrupted ones go on.

    python -m benchmarks.training.objectives --data cifar10 --runs runs/objectives \
        --out results --jobs 2
"""

from __future__ import annotations

import argparse
import csv
import os
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
from benchmarks.training.answers import Trained, read_all
from benchmarks.training.comparison import ROWS, VARIATIONS, Plan, Row, runs_of, train_all
from training.errors import TrainingError
from training.recipes import RECIPES

JOINT = "joint"
DFS = "dfs-released"  # what recipes do unless told otherwise
FIRST_EXIT = 2.0  # points that DFS is to gain there

# By row, then by seed: accuracy of each exit in percent, [exits].
Accuracies = Mapping[str, Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Found:
    """Accuracies on both sets, and how many images these have."""

    test: Accuracies
    held_out: Accuracies
    test_images: int
    held_out_images: int


def accuracies(trained: Sequence[Trained]) -> Found:
    """Of every run."""
    test: dict[str, dict[str, NDArray[np.float64]]] = {}
    held_out: dict[str, dict[str, NDArray[np.float64]]] = {}
    for one in trained:
        test.setdefault(one.row, {})[one.seed] = 100 * one.test.right.mean(axis=1)
        held_out.setdefault(one.row, {})[one.seed] = 100 * one.held_out.right.mean(axis=1)
    return Found(test, held_out, trained[0].test.images, trained[0].held_out.images)


def gains(found: Accuracies, row: Row) -> NDArray[np.float64]:
    """Points above the row it is compared with, [seeds that both have, exits]."""
    other = found.get(row.against, {})
    return np.array([own - other[seed] for seed, own in found[row.name].items() if seed in other])


def print_table(found: Found, rows: Sequence[Row]) -> None:
    """Three lines for each row that there is a run of, and last the rows to adopt."""
    print(f"\naccuracy of each exit, %, on {found.test_images:,} test images; deviation over seeds")
    for row in rows:
        if row.name not in found.test:
            continue
        runs = np.array(list(found.test[row.name].values()))
        cells = [
            f"{mean:6.2f}" + (f" ±{deviation:4.2f}" if len(runs) > 1 else " " * 6)
            for mean, deviation in zip(runs.mean(0), _deviation(runs), strict=True)
        ]
        print(f"{row.name:28} {len(runs)} seeds  " + "  ".join(cells))
        for name, known in (("test", found.test), ("held-out", found.held_out)):
            if row.name != row.against and len(difference := gains(known, row)):
                cells = [f"{points:+6.2f}      " for points in difference.mean(0)]
                print(f"{'  ' + name + ', against ' + row.against:38}" + "  ".join(cells))
    named = ", ".join(f"{row.name} ({n} seeds)" for row, n in adopted(found.held_out, rows))
    print(
        "adopt (above what they are compared with at every exit, mean over seeds, on "
        f"{found.held_out_images:,} held-out images): {named or 'none'}"
    )


def adopted(held_out: Accuracies, rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """Rows that gain at every exit, each with the number of seeds that say so."""
    measured = [(row, gains(held_out, row)) for row in rows if row.name in held_out]
    return [(row, len(one)) for row, one in measured if len(one) and (one.mean(axis=0) > 0).all()]


def _deviation(runs: NDArray[np.float64]) -> NDArray[np.float64]:
    return runs.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros(runs.shape[1])


def write(folder: Path, found: Found, rows: Sequence[Row]) -> None:
    """Accuracies as `objectives.csv`, gains as a plot."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "objectives.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "exit", "test_accuracy", "held_out_accuracy"])
        for name, seeds in sorted(found.test.items()):
            for seed, exits in sorted(seeds.items()):
                both = zip(exits, found.held_out[name][seed], strict=True)
                for k, each in enumerate(both, 1):
                    writer.writerow([name, seed, k, *(round(float(a) / 100, 6) for a in each)])
    for ending in ("png", "svg"):
        figure(found.test, rows).savefig(folder / f"objectives.{ending}", dpi=150)


def figure(found: Accuracies, rows: Sequence[Row]) -> Figure:
    """Points that each row gains at each exit; every seed a dot, their mean a bar."""
    drawn = [row for row in rows if row.name in found and row.name != row.against]
    drawn = [row for row in drawn if len(gains(found, row))]
    made = Figure(figsize=(8, 1 + 0.5 * len(drawn)), layout="constrained")
    axes = made.subplots()
    for place, row in enumerate(drawn):
        points = gains(found, row)
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
    return made


def goals(held_out: Accuracies) -> list[Goal]:
    """What the paper leads one to expect of DFS."""
    if DFS not in held_out or not len(gained := gains(held_out, Row(DFS, "", against=JOINT))):
        return []
    means = gained.mean(axis=0)
    figure = (
        ", ".join(f"{points:+.2f}" for points in means)
        + f" points on held-out images, {len(gained)} seeds"
    )
    return [
        Goal(f"{DFS} is above {JOINT} at every exit", figure, bool((means > 0).all())),
        Goal(f"{DFS} gains {FIRST_EXIT} points at exit 1", figure, bool(means[0] >= FIRST_EXIT)),
    ]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="What does each objective bring?")
    made.add_argument("--runs", type=Path, default=Path("runs/objectives"), help="where runs are")
    made.add_argument("--data", default="cifar10", help="as of `python -m training`")
    made.add_argument("--recipe", choices=RECIPES, default=Plan().recipe, help="of all runs")
    made.add_argument("--options", default="", help="of the recipe, for all runs: '--epochs 20'")
    made.add_argument("--out", type=Path, required=True, help="folder for tables and plots")
    made.add_argument("--jobs", type=positive_int, default=os.cpu_count(), help="runs at a time")
    made.add_argument("--variations", action="store_true", help="also what might explain DFS")
    made.add_argument("--no-training", action="store_true", help="tables of what there is")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 1 where a goal is missed or for a user's error."""
    arguments = parser().parse_args(argv)
    rows = ROWS + (VARIATIONS if arguments.variations else ())
    try:
        if not arguments.no_training:
            plan = Plan(arguments.data, arguments.recipe, arguments.options)
            train_all(runs_of(rows), arguments.runs, plan, arguments.jobs)
        trained = read_all(arguments.runs, arguments.data)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(error.cmd)}: see output.txt of the run", file=sys.stderr)
        return 1
    found = accuracies(trained)
    write(arguments.out, found, rows)
    print_table(found, rows)
    return print_goals(goals(found.held_out))


if __name__ == "__main__":
    sys.exit(main())
