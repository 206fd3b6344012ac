"""At which mean flops does a network trained with X reach joint training's best accuracy?

Reads finished runs, RUNS/<row>/seed<k>/checkpoint.safetensors, one row of them `joint`, all of
one network and one source of images. Thresholds of every run are solved on its held-out images
and measured on the test split. For each row the table gives mean and deviation over seeds of
test accuracy at shares of full depth's flops, of the area under the curve (accuracy averaged
from the first exit's flops to full depth's), and of the mean flops at which it reaches the
highest accuracy of joint training's curve of the same seed: as a share of the flops that joint
training needs for it, and of full depth's. Curves and table are written as CSV, PNG and SVG; at
the end stands a line for each goal.

    python -m benchmarks.budgeted --runs RUNS --data cifar10 --out FOLDER
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

from benchmarks.answers import Trained, read_all
from benchmarks.goals import Goal, print_goals
from training.budgeted import (
    PROCEDURES,
    SHARES,
    Curve,
    Procedure,
    direct_optimum,
    flops_to_reach,
    measure,
    paper_procedure,
    summarize,
)
from training.calibrate import best_within
from training.errors import DataError, TrainingError
from training.evaluate import Floats

JOINT = "joint"
DFS = "dfs"  # what the names of its rows begin with
GOAL = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """A run's curve on the test split, and its figures.

    Args:
        to_joint: mean flops to reach joint training's best, as shares of what joint training
            needs for it and of full depth's; NaN where the curve never does.
        holds: whether on the held-out images our points are nowhere below the paper's.
    """

    run: Trained
    curve: Curve
    accuracies: tuple[float, ...]
    area: float
    to_joint: tuple[float, float]
    holds: bool


def best(curve: Curve) -> tuple[float, float]:
    """The highest accuracy of a curve and the least mean flops for it."""
    k = int(curve.accuracy.argmax())
    return float(curve.accuracy[k]), float(curve.flops[k])


def measured(run: Trained, joint: Trained, procedure: Procedure = direct_optimum) -> Measured:
    """The figures of a run beside joint training of the same seed."""
    ours, papers = direct_optimum(run.held_out), paper_procedure(run.held_out)
    curve = measure(procedure(run.held_out), run.test)
    accuracy, flops = best(measure(procedure(joint.held_out), joint.test))
    reached = flops_to_reach(curve, accuracy)
    summary = summarize(curve, run.test)
    return Measured(
        run,
        curve,
        tuple(np.nan if a is None else a for a in summary.accuracies),
        summary.area,
        (np.nan, np.nan) if reached is None else (reached / flops, reached / run.test.flops[-1]),
        all(
            best_within(ours, p.mean_flops).accuracy >= best_within(papers, p.mean_flops).accuracy
            for p in papers
        ),
    )


def table(runs: Sequence[Trained], procedure: Procedure) -> dict[str, list[Measured]]:
    """Every row's runs measured, `joint` first.

    Raises:
        DataError: there is no joint run of a seed that another row has.
    """
    joint = {run.seed: run for run in runs if run.row == JOINT}
    rows: dict[str, list[Measured]] = {}
    for run in track(sorted(runs, key=lambda run: (run.row != JOINT, run.row)), transient=True):
        if run.seed not in joint:
            raise DataError(f"--runs: there is no {JOINT}/{run.seed} to compare {run.row} with")
        rows.setdefault(run.row, []).append(measured(run, joint[run.seed], procedure))
    return rows


def columns(row: Sequence[Measured]) -> dict[str, Floats]:
    """The figures of a row by name, [seeds]."""
    found = {
        f"accuracy at {share:.0%}": np.array([one.accuracies[k] for one in row])
        for k, share in enumerate(SHARES)
    }
    found["area"] = np.array([one.area for one in row])
    found["flops / joint's"] = np.array([one.to_joint[0] for one in row])
    found["flops / full"] = np.array([one.to_joint[1] for one in row])
    return found


def spread(values: Floats) -> str:
    """Mean and deviation over seeds; NaN in any of them is "never"."""
    if np.isnan(values).any():
        return f"never in {np.isnan(values).sum()}/{len(values)}"
    deviation = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
    return f"{values.mean():.4f}{deviation}"


def print_table(rows: Mapping[str, Sequence[Measured]]) -> None:
    """One line for each row."""
    first = next(iter(rows.values()))
    print(f"{'row':18}{'seeds':>6}" + "".join(f"{name:>18}" for name in columns(first)))
    for name, row in rows.items():
        figures = "".join(f"{spread(values):>18}" for values in columns(row).values())
        print(f"{name:18}{len(row):6}{figures}")
    print(
        f"thresholds from {first[0].run.held_out.images:,} held-out images, "
        f"accuracy on {first[0].run.test.images:,} of test; deviation over seeds"
    )


def figure(rows: Mapping[str, Sequence[Measured]]) -> Figure:
    """The curve of every row: mean over seeds on common flops."""
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    for name, row in rows.items():
        flops = row[0].run.test.flops
        grid = np.linspace(flops[0], flops[-1], 200)
        mean = np.mean([np.interp(grid, m.curve.flops, m.curve.accuracy) for m in row], axis=0)
        axes.plot(grid / 1e6, 100 * mean, label=f"{name} ({len(row)} seeds)")
    axes.set(
        xlabel="mean flops for one image, millions of multiply-adds",
        ylabel="test accuracy, %",
        title=f"n = {row[0].run.test.images:,}; thresholds from other, held-out images",
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return drawn


def write(folder: Path, rows: Mapping[str, Sequence[Measured]]) -> None:
    """Curves and figures of every run, and the plot."""
    folder.mkdir(parents=True, exist_ok=True)
    every = [one for row in rows.values() for one in row]
    with (folder / "budgeted_curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "mean_flops", "accuracy"])
        for one in every:
            for flops, accuracy in zip(one.curve.flops, one.curve.accuracy, strict=True):
                writer.writerow([one.run.row, one.run.seed, flops, accuracy])
    with (folder / "budgeted.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", *columns(every)])
        for one in every:
            writer.writerow([one.run.row, one.run.seed, *(v[0] for v in columns([one]).values())])
    for ending in ("png", "svg"):
        figure(rows).savefig(folder / f"budgeted.{ending}", dpi=150)


def goals(rows: Mapping[str, Sequence[Measured]]) -> list[Goal]:
    """What the curves were to show."""
    found = []
    for name, row in rows.items():
        if name.startswith(DFS):
            ratios = columns(row)["flops / joint's"]
            text = f"{name} reaches joint's best accuracy at <= {GOAL} of its flops"
            met = bool(ratios.mean() <= GOAL)  # NaN is not
            found.append(Goal(text, f"{spread(ratios)}, {len(row)} seeds", met))
    holds = [one.holds for row in rows.values() for one in row]
    text = "our optimum nowhere below the paper's procedure on validation"
    found.append(Goal(text, f"so in {sum(holds)} of {len(holds)} runs", all(holds)))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status is 0, or 1 where a goal is missed or for a user's error."""
    parser = argparse.ArgumentParser(description="Where does X reach joint training's best?")
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
