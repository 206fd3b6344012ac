"""Train, compare and explain objectives in one command.

All rows of the comparison are trained with one recipe, several runs at the same time. Finished
runs are not trained again, and interrupted runs are resumed, so the command can be stopped and
started at any time. Then it writes:

- `evidence.csv` and the printed table: accuracy of each row at each exit, paired differences to its
  baseline with standard errors, cost of a step, and flops at 95, 98 and 99 % of the baseline's best
  accuracy. `evidence_runs.csv` has the accuracy of every run.
- `evidence.png` and `.svg`: the differences, one panel for each row.
- `conflict.csv`, `.png` and `.svg`: cosine and ratio of the exits' gradients by pair of exits,
  epoch and class.

    python -m benchmarks.training.evidence --data cifar10 --runs runs/objectives \
        --rows dfs-released dfs-conflict distillation-scaled --seeds 3 --out results

`--recipe photos` compares the rows of `benchmarks.training.photos.objectives`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure

from benchmarks.timing import positive_int
from benchmarks.training import conflict
from benchmarks.training.comparison import ROWS, VARIATIONS, Plan, Row, Run
from benchmarks.training.evidence.figures import conflict_figure, differences_figure
from benchmarks.training.evidence.paired import Difference, paired, right_of
from benchmarks.training.evidence.table import print_table, table, write_runs, write_summary
from benchmarks.training.objective_costs import quartiles, step_times
from benchmarks.training.objectives import build_parser, trained_runs
from benchmarks.training.photos.objectives import ROWS as PHOTO_ROWS
from benchmarks.training.predictions import Trained
from training.errors import TrainingError

SEED = "seed0"


def rows_named(names: Sequence[str] | None, known: Sequence[Row], seeds: int | None) -> list[Row]:
    """Return the named rows and their baselines, in the order of `known`.

    Args:
        names: Names of rows. `None`: all.
        known: Rows of the comparison.
        seeds: Runs of each row. `None`: the row's own number.
    """
    wanted = set(names or (row.name for row in known))
    while missing := {row.against for row in known if row.name in wanted} - wanted:
        wanted |= missing
    chosen = [row for row in known if row.name in wanted]
    return [replace(row, seeds=seeds) if seeds else row for row in chosen]


def step_costs(rows: Sequence[Row], plan: Plan, rounds: int) -> dict[str, float]:
    """Return the median time of a step over that of joint training, by row. Empty for 0 rounds."""
    joint = next((row for row in rows if row.name == "joint"), None)
    if not rounds or joint is None:
        return {}
    recipes = {row: plan.recipe_of(Run(row, 0)) for row in rows}
    found = quartiles(step_times(recipes, 16, rounds, torch.device("cpu")))
    return {name: float(median) for name, (_, median, _) in found.items()}


def differences(trained: Sequence[Trained], rows: Sequence[Row]) -> dict[str, Difference]:
    """Return the differences of all rows on the test images, by the title of their panel."""
    right = right_of(trained, ["test"])
    found = {}
    for row in rows:
        title = row.name if row.against == "joint" else f"{row.name}\nagainst {row.against}"
        pair = right.get(row.name), right.get(row.against)
        if row.name != row.against and pair[0] and pair[1] and (each := paired(pair[0], pair[1])):
            found[title] = each
    return found


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a plot as PNG and SVG."""
    for ending in ("png", "svg"):
        figure.savefig(folder / f"{name}.{ending}", dpi=150)


def explain(trained: Sequence[Trained], arguments: argparse.Namespace) -> None:
    """Measure and write the conflict in the rows of `--explain` that have runs, with seed 0."""
    seeds = {(run.row, run.seed) for run in trained}
    rows = [row for row in arguments.explain if (row, SEED) in seeds]
    batches = conflict.Batches(arguments.data, arguments.batches, arguments.classes)
    paths = [path for path in conflict.paths_of(arguments.runs, rows) if path.parent.name == SEED]
    conflict.print_heading()
    lines = [line for path in paths for line in conflict.lines_of(path, batches)]
    if lines:
        conflict.write(arguments.out / conflict.TABLE, lines)
        save(conflict_figure(lines), arguments.out, "conflict")


def options_parser() -> argparse.ArgumentParser:
    """Return the command-line parser: that of `benchmarks.training.objectives`, and more."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        parents=[build_parser(add_help=False)],
    )
    option = parser.add_argument
    names = sorted({row.name for row in (*ROWS, *VARIATIONS, *PHOTO_ROWS)})
    option("--rows", nargs="+", choices=names, metavar="ROW", help=f"of {', '.join(names)}")
    option("--seeds", type=positive_int, help="runs of each row (default: as the row says)")
    option("--step-rounds", type=int, default=5, help="timed rounds of a step (0: not timed)")
    option("--explain", nargs="*", default=["joint"], help="rows to measure the conflict in")
    option("--batches", type=positive_int, default=20, help="batches to measure the conflict on")
    option("--classes", type=int, default=10, help="classes that are also measured alone")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a user's error."""
    arguments = options_parser().parse_args(argv)
    known = PHOTO_ROWS if arguments.recipe == "photos" else (*ROWS, *VARIATIONS)
    rows = rows_named(arguments.rows, known, arguments.seeds)
    plan = Plan(arguments.data, arguments.recipe, arguments.options)
    found = trained_runs(rows, plan, arguments)
    if found is None:
        return 1
    trained = [run for run in found if run.row in {row.name for row in rows}]
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_runs(arguments.out / "evidence_runs.csv", trained)
    lines = table(trained, rows, step_costs(rows, plan, arguments.step_rounds))
    write_summary(arguments.out / "evidence.csv", lines)
    print_table(lines, trained[0].test.images, trained[0].held_out.images)
    save(differences_figure(differences(trained, rows)), arguments.out, "evidence")
    try:
        explain(trained, arguments)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
