"""Compare the budgeted accuracy of training methods.

Reads finished runs, RUNS/<row>/seed<k>/checkpoint.safetensors. Each row is compared with its
baseline (`against` in `comparison`, mostly `joint`), which has the same network and images.
Thresholds of every run are solved on its held-out images and measured on the test split. The table
has mean and deviation over seeds of these figures:

- Test accuracy at shares of full depth's flops.
- Area under the curve: accuracy averaged from the first exit's flops to full depth's.
- Mean flops at which the row reaches the best accuracy of the baseline with the same seed, as a
  share of the flops that the baseline needs for it, and of full depth's. The best accuracy is the
  test accuracy of the thresholds that are best on the held-out images.

Curves and table are written as CSV, PNG and SVG. The last lines are the goals.

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
from benchmarks.training.comparison import ROWS, row_named
from benchmarks.training.curves import Measured, Solved, measured, solve
from benchmarks.training.predictions import Trained, read_all
from training.errors import DataError, TrainingError
from training.evaluation.budgeted import BUDGETS, PROCEDURES, SHARES, Procedure
from training.evaluation.evaluate import Floats

DFS = "dfs"  # first part of the names of its rows
MAX_FLOPS = 0.5  # share of the baseline's flops
RATIO = "flops / baseline"
NO_POINT = "no point"  # printed for a missing accuracy
STYLES, COLOURS = ("-", "--", ":"), 10  # colours repeat after ten rows


def table(runs: Sequence[Trained], procedure: Procedure) -> dict[str, list[Measured]]:
    """Measure the runs of every row. Rows that are their own baseline come first.

    Raises:
        DataError: A baseline run with the same seed is missing, or has another network.
    """
    solved = {(r.row, r.seed): solve(r, procedure) for r in track(runs, "solving", transient=True)}
    rows: dict[str, list[Measured]] = {}
    for row, seed in sorted(solved, key=lambda key: (row_named(key[0]).against != key[0], key)):
        against = row_named(row).against
        if (against, seed) not in solved:
            raise DataError(f"--runs: there is no {against}/{seed} to compare {row} with")
        run = measured(solved[row, seed], solved[against, seed])
        rows.setdefault(row, []).append(run)
    return rows


def columns(row: Sequence[Measured]) -> dict[str, Floats]:
    """Return the figures of a row by name, [seeds]."""
    figures = {
        f"accuracy at {share:.0%}": np.array([run.accuracies[k] for run in row])
        for k, share in enumerate(SHARES)
    }
    figures["area"] = np.array([run.area for run in row])
    figures[RATIO] = np.array([run.to_best[0] for run in row])
    figures["flops / full"] = np.array([run.to_best[1] for run in row])
    return figures


def mean_and_deviation(values: Floats, missing: str = "never") -> str:
    """Format mean and deviation over seeds. `missing` is the text for NaN values."""
    if np.isnan(values).any():
        return f"{missing} in {np.isnan(values).sum()}/{len(values)}"
    deviation = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{deviation}"


def print_table(rows: Mapping[str, Sequence[Measured]]) -> None:
    """Print one line for each row."""
    first = next(iter(rows.values()))
    print(f"{'row':28}{'seeds':>6}  {'baseline':20}" + "".join(f"{n:>18}" for n in columns(first)))
    for name, row in rows.items():
        figures = ""
        for column, values in columns(row).items():
            missing = NO_POINT if column.startswith("accuracy") else "never"
            figures += f"{mean_and_deviation(values, missing):>18}"
        print(f"{name:28}{len(row):6}  {row_named(name).against:20}{figures}")
    run = first[0].solved.run
    print(
        f"thresholds from {run.held_out.images:,} held-out images, accuracy on "
        f"{run.test.images:,} of test; deviation over seeds; "
        f"{NO_POINT}: below the first exit's flops"
    )


def figure(rows: Mapping[str, Sequence[Measured]]) -> Figure:
    """Plot the curve of every row, as mean over seeds on common flops."""
    plot = Figure(figsize=(8, 6.5), layout="constrained")
    axes = plot.subplots()
    for number, (name, row) in enumerate(rows.items()):
        flops = row[0].solved.run.test.flops
        grid = np.linspace(flops[0], flops[-1], 200)
        curves = [run.solved.curve for run in row]
        mean = np.mean([np.interp(grid, c.flops, c.accuracy) for c in curves], axis=0)
        style = STYLES[number // COLOURS % len(STYLES)]
        axes.plot(grid / 1e6, 100 * mean, style, label=f"{name} ({len(row)} seeds)")
    axes.set(
        xlabel="mean flops for one image, millions of multiply-adds",
        ylabel="test accuracy, %",
        title=f"n = {row[0].solved.run.test.images:,}, thresholds from held-out images",
    )
    axes.grid(alpha=0.3)
    plot.legend(loc="outside lower center", ncols=3, fontsize="small")
    return plot


def write(folder: Path, rows: Mapping[str, Sequence[Measured]]) -> None:
    """Write curves and figures of every run, and the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    every = [measured for row in rows.values() for measured in row]
    with (folder / "budgeted_curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "mean_flops", "accuracy"])
        for each in every:
            run, curve = each.solved.run, each.solved.curve
            for flops, accuracy in zip(curve.flops, curve.accuracy, strict=True):
                writer.writerow([run.row, run.seed, flops, accuracy])
    with (folder / "budgeted.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", *columns(every)])
        for each in every:
            run = each.solved.run
            writer.writerow([run.row, run.seed, *(v[0] for v in columns([each]).values())])
    for ending in ("png", "svg"):
        figure(rows).savefig(folder / f"budgeted.{ending}", dpi=150)


def goals(rows: Mapping[str, Sequence[Measured]]) -> list[Goal]:
    """Return the goals of the curves. Variations have no goal."""
    listed = []
    for name in (row.name for row in ROWS if row.name.startswith(DFS) and row.name in rows):
        ratios, baseline = columns(rows[name])[RATIO], row_named(name).against
        text = f"{name} reaches {baseline}'s best accuracy at <= {MAX_FLOPS} of its flops"
        met = bool(ratios.mean() <= MAX_FLOPS)  # false for NaN
        listed.append(Goal(text, f"{mean_and_deviation(ratios)}, {len(ratios)} seeds", met))
    return [*listed, *threshold_goals([run.solved for row in rows.values() for run in row])]


def threshold_goals(runs: Sequence[Solved]) -> list[Goal]:
    """Return goals that compare our thresholds with the paper's on held-out images.

    They are compared on the images that they were solved on, and cross-fitted.
    """
    ours = "our optimum nowhere below the paper's procedure"
    holds, margins = [run.holds for run in runs], np.array([run.margin for run in runs])
    above = int((margins >= 0).all(axis=1).sum())
    images = f"n = {runs[0].run.held_out.images:,}"
    return [
        Goal(
            f"{ours} on the images both were solved on (by construction)",
            f"true in {sum(holds)} of {len(holds)} runs, {images}",
            all(holds),
        ),
        Goal(
            f"{ours}, both cross-fitted on held-out images",
            f"true in {above} of {len(runs)} runs, points above it at {BUDGETS} budgets: "
            f"minimum {100 * margins.min():+.2f}, mean {100 * margins.mean():+.2f}, {images}",
            above == len(runs),
        ),
    ]


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description="Compare the budgeted accuracy of training methods."
    )
    option = parser.add_argument
    option("--runs", type=Path, required=True, help="folder of runs <row>/seed<k>/")
    option("--data", help="location of the images (default: the one used in training)")
    option("--out", type=Path, required=True, help="folder for tables and plots")
    option("--rows", nargs="+", help="rows to compare (default: all)")
    option(
        "--procedure",
        choices=PROCEDURES,
        default="direct optimum",
        help="procedure that solves thresholds (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a missed goal or a user's error."""
    arguments = build_parser().parse_args(argv)
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
