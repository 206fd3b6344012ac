"""At which mean flops does a network trained with X reach the best accuracy of one without?

Reads finished runs, RUNS/<row>/seed<k>/checkpoint.safetensors, each row beside the one that it is
compared with (`against`, in `comparison`; mostly `joint`), of the same network and images.
Thresholds of every run are solved on its held-out images and measured on the test split. For each
row the table gives mean and deviation over seeds of test accuracy at shares of full depth's
flops, of the area under the curve (accuracy averaged from the first exit's flops to full
depth's), and of the mean flops at which it reaches the other row's best accuracy with the same
seed: as a share of the flops that the other needs for it, and of full depth's. That best is the
test accuracy of the thresholds that are best on the held-out images. Curves and table are
written as CSV, PNG and SVG; at the end stands a line for each goal.

    python -m benchmarks.training.budgeted --runs RUNS --data cifar10 --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.goals import Goal, print_goals
from benchmarks.training.answers import Trained, read_all
from benchmarks.training.comparison import ROWS, row_named
from benchmarks.training.curves import Measured, Solved, measured, solve
from training.errors import DataError, TrainingError
from training.evaluation.budgeted import BUDGETS, PROCEDURES, SHARES, Procedure
from training.evaluation.evaluate import Floats

DFS = "dfs"  # what the names of its rows begin with
GOAL = 0.5
NO_POINT = "no point"  # instead of an accuracy
STYLES, COLOURS = ("-", "--", ":"), 10  # colours come round after ten rows


def table(runs: Sequence[Trained], procedure: Procedure) -> dict[str, list[Measured]]:
    """Every row's runs measured, those first that are compared with themselves.

    Raises:
        DataError: there is no run of a seed to compare a row's with, or of another network.
    """
    solved = {(r.row, r.seed): solve(r, procedure) for r in track(runs, "solving", transient=True)}
    rows: dict[str, list[Measured]] = {}
    for row, seed in sorted(solved, key=lambda key: (row_named(key[0]).against != key[0], key)):
        against = row_named(row).against
        if (against, seed) not in solved:
            raise DataError(f"--runs: there is no {against}/{seed} to compare {row} with")
        one = measured(solved[row, seed], solved[against, seed])
        rows.setdefault(row, []).append(one)
    return rows


def columns(row: Sequence[Measured]) -> dict[str, Floats]:
    """The figures of a row by name, [seeds]."""
    found = {
        f"accuracy at {share:.0%}": np.array([one.accuracies[k] for one in row])
        for k, share in enumerate(SHARES)
    }
    found["area"] = np.array([one.area for one in row])
    found["flops / other's"] = np.array([one.to_best[0] for one in row])
    found["flops / full"] = np.array([one.to_best[1] for one in row])
    return found


def spread(values: Floats, missing: str = "never") -> str:
    """Mean and deviation over seeds; `missing` says what NaN in any of them means."""
    if np.isnan(values).any():
        return f"{missing} in {np.isnan(values).sum()}/{len(values)}"
    deviation = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{deviation}"


def print_table(rows: Mapping[str, Sequence[Measured]]) -> None:
    """One line for each row."""
    first = next(iter(rows.values()))
    print(f"{'row':28}{'seeds':>6}  {'other':20}" + "".join(f"{n:>18}" for n in columns(first)))
    for name, row in rows.items():
        figures = "".join(
            f"{spread(values, NO_POINT if column.startswith('accuracy') else 'never'):>18}"
            for column, values in columns(row).items()
        )
        print(f"{name:28}{len(row):6}  {row_named(name).against:20}{figures}")
    run = first[0].solved.run
    print(
        f"thresholds from {run.held_out.images:,} held-out images, accuracy on "
        f"{run.test.images:,} of test; deviation over seeds; "
        f"{NO_POINT}: below the first exit's flops"
    )


def figure(rows: Mapping[str, Sequence[Measured]]) -> Figure:
    """The curve of every row: mean over seeds on common flops."""
    drawn = Figure(figsize=(8, 6.5), layout="constrained")
    axes = drawn.subplots()
    for number, (name, row) in enumerate(rows.items()):
        flops = row[0].solved.run.test.flops
        grid = np.linspace(flops[0], flops[-1], 200)
        curves = [one.solved.curve for one in row]
        mean = np.mean([np.interp(grid, c.flops, c.accuracy) for c in curves], axis=0)
        style = STYLES[number // COLOURS % len(STYLES)]
        axes.plot(grid / 1e6, 100 * mean, style, label=f"{name} ({len(row)} seeds)")
    axes.set(
        xlabel="mean flops for one image, millions of multiply-adds",
        ylabel="test accuracy, %",
        title=f"n = {row[0].solved.run.test.images:,}; thresholds from other, held-out images",
    )
    axes.grid(alpha=0.3)
    drawn.legend(loc="outside lower center", ncols=3, fontsize="small")
    return drawn


def write(folder: Path, rows: Mapping[str, Sequence[Measured]]) -> None:
    """Curves and figures of every run, and the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    every = [one for row in rows.values() for one in row]
    with (folder / "budgeted_curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "mean_flops", "accuracy"])
        for one in every:
            run, curve = one.solved.run, one.solved.curve
            for flops, accuracy in zip(curve.flops, curve.accuracy, strict=True):
                writer.writerow([run.row, run.seed, flops, accuracy])
    with (folder / "budgeted.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", *columns(every)])
        for one in every:
            run = one.solved.run
            writer.writerow([run.row, run.seed, *(v[0] for v in columns([one]).values())])
    for ending in ("png", "svg"):
        figure(rows).savefig(folder / f"budgeted.{ending}", dpi=150)


def goals(rows: Mapping[str, Sequence[Measured]]) -> list[Goal]:
    """What the curves were to show; variations, which are there to explain, have no goal."""
    found = []
    for name in (row.name for row in ROWS if row.name.startswith(DFS) and row.name in rows):
        ratios = columns(rows[name])["flops / other's"]
        text = f"{name} reaches {row_named(name).against}'s best accuracy at <= {GOAL} of its flops"
        met = bool(ratios.mean() <= GOAL)  # NaN is not
        found.append(Goal(text, f"{spread(ratios)}, {len(ratios)} seeds", met))
    return [*found, *of_thresholds([one.solved for row in rows.values() for one in row])]


def of_thresholds(runs: Sequence[Solved]) -> list[Goal]:
    """Ours against the paper's on held-out images: as solved, and on images they have not seen."""
    ours = "our optimum nowhere below the paper's procedure"
    holds, margins = [one.holds for one in runs], np.array([one.margin for one in runs])
    above = int((margins >= 0).all(axis=1).sum())
    images = f"n = {runs[0].run.held_out.images:,}"
    return [
        Goal(
            f"{ours} on the images both were solved on (by construction)",
            f"so in {sum(holds)} of {len(holds)} runs, {images}",
            all(holds),
        ),
        Goal(
            f"{ours}, both cross-fitted on held-out images",
            f"so in {above} of {len(runs)} runs; points above it at {BUDGETS} budgets: "
            f"least {100 * margins.min():+.2f}, mean {100 * margins.mean():+.2f}, {images}",
            above == len(runs),
        ),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, or 1 where a goal is missed or for a user's error."""
    parser = argparse.ArgumentParser(description="Where does X reach the best of a run without?")
    parser.add_argument("--runs", type=Path, required=True, help="RUNS/<row>/seed<k>/")
    parser.add_argument("--data", help="where the images are now, if not where training found them")
    parser.add_argument("--out", type=Path, required=True, help="folder for tables and plots")
    parser.add_argument("--rows", nargs="+", help="which (default: all)")
    parser.add_argument(
        "--procedure", choices=PROCEDURES, default="direct optimum", help="that solves thresholds"
    )
    arguments = parser.parse_args(argv)
    try:
        trained = read_all(arguments.runs, arguments.data, arguments.rows)
        rows = table(trained, PROCEDURES[arguments.procedure])
        write(arguments.out, rows)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_table(rows)
    return print_goals(goals(rows))


if __name__ == "__main__":
    sys.exit(main())
