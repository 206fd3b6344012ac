"""Tell surgery from regularisation: both variants with both regularisations, in a given time.

The paper's gains coincide with another weight decay and with dropout in the heads. Four rows of the
recipe `cifar-paper` separate the two: `joint` and `released`, each with weight decay 1e-4 and no
dropout in the heads, and with 5e-4 and .5. Runs are at the same time on one device. All rows with
seed 0 come first. The number of epochs is chosen so that all runs end in the given time. For that,
the seconds of a step are measured first, with as many processes as later.

    python -m benchmarks.gpu.comparison --data data/tin100 --out results/gpu --limit 540

Written at all times, so that a run that is cut off leaves what it has done:

- `epochs.csv`: held-out accuracy of each run at each epoch and exit.
- `table.txt`: differences of rows at the last epoch that both have.

At the end, if time is left, `table.txt` gets paired differences with standard errors on the test
images, and `right.npz` says for each run which test images each exit is right for. The command can
be repeated with the same `--epochs`: finished runs are kept, others resumed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from benchmarks.gpu.results import write_epochs, write_table, write_test
from benchmarks.timing import positive_int
from benchmarks.training.comparison import Plan, Row, Run, finished, runs_of, train
from training.data.datasets import open_dataset
from training.errors import TrainingError
from training.output_folder import CHECKPOINT

PLAIN = "--weight-decay 1e-4 --shape.head_dropout 0"
REGULARISED = "--weight-decay 5e-4 --shape.head_dropout 0.5"
ROWS = (
    Row("joint-plain", f"--variant joint {PLAIN}", against="joint-plain"),
    Row("released-plain", f"--variant released {PLAIN}", against="joint-plain"),
    Row("joint-regularised", f"--variant joint {REGULARISED}", against="joint-plain"),
    Row("released-regularised", f"--variant released {REGULARISED}", against="joint-regularised"),
)
SECONDS_TO_WRITE = 30.0  # of the limit, for the predictions and tables at the end
SECONDS_AROUND = 30.0  # of a run, to read the images and to write the report
SLOWER = 1.15  # a step with the reading of images and evaluation, over a step alone
EVERY = 10.0  # seconds between tables


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a step, and of the start of a process."""

    step: float
    start: float


def measured_step(plan: Plan, run: Run, classes: int, jobs: int, seconds: float) -> Measured:
    """Measure a step in so many processes at the same time, and return the slowest.

    Raises:
        subprocess.CalledProcessError: The step failed. `stderr` of the error has the reason.
    """
    options = ["--classes", str(classes), "--seconds", str(seconds), "--"]
    command = [sys.executable, "-m", "benchmarks.gpu.step_seconds", *options]
    command += plan.arguments(run, Path("unused"))

    def measure() -> Measured:
        began = time.monotonic()
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        step = float(found.stdout.split()[-1])
        return Measured(step, max(0.0, time.monotonic() - began - seconds))

    with ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(lambda _: measure(), range(jobs)))
    return max(found, key=lambda one: one.step)


def epochs_within(seconds: float, found: Measured, steps: int, rounds: int, most: int) -> int:
    """Return the number of epochs, 1 to `most`, for which so many rounds of runs take that long.

    Args:
        seconds: Time for all runs.
        found: Seconds of a step and of the start.
        steps: Steps of an epoch.
        rounds: Number of runs one after another.
        most: Largest number.
    """
    of_round = seconds / rounds - found.start - SECONDS_AROUND
    return max(1, min(most, int(of_round / (steps * found.step * SLOWER))))


def plan_of(given: argparse.Namespace, epochs: int | None) -> Plan:
    """Return the settings of all runs. `None`: the recipe's own number of epochs."""
    fixed = f"--precision {given.precision} --images memory"
    epochs_of_all = f"--epochs {epochs}" if epochs else ""
    return Plan(str(given.data), given.recipe, f"{fixed} {epochs_of_all} {given.options}")


def chosen_epochs(given: argparse.Namespace, wanted: Sequence[Run], seconds: float) -> int:
    """Measure a step and choose the number of epochs for the seconds that are left then."""
    began, plan = time.monotonic(), plan_of(given, None)
    recipe = plan.recipe_of(wanted[0])
    dataset = open_dataset(recipe.data, recipe.size, recipe.held_out, recipe.seed)
    found = measured_step(plan, wanted[0], len(dataset.labels), given.jobs, given.probe)
    steps = max(1, len(dataset.train) // recipe.batch_size)
    rounds = ceil(len(wanted) / given.jobs)
    left = seconds - (time.monotonic() - began)
    epochs = epochs_within(left, found, steps, rounds, given.most_epochs)
    print(
        f"a step takes {found.step:.4f} s with {given.jobs} processes, an epoch has {steps}: "
        f"{epochs} epochs for {len(wanted)} runs in {left:.0f} s",
        flush=True,
    )
    return epochs


def train_until(wanted: Sequence[Run], plan: Plan, given: argparse.Namespace, end: float) -> None:
    """Train runs until the time `end` of the monotonic clock, and write results as they come."""
    runs = given.runs or given.out / "runs"

    def one(run: Run) -> None:
        left = end - time.monotonic()
        if left > 0 and not finished(run.folder(runs) / CHECKPOINT, plan.recipe_of(run)):
            train(run, runs, plan, left)

    with ThreadPoolExecutor(given.jobs) as pool:
        waiting: set[Future[None]] = {pool.submit(one, run) for run in wanted}
        while waiting:
            done, waiting = wait(waiting, EVERY, FIRST_COMPLETED)
            write_epochs(given.out, runs, wanted)
            write_table(given.out, runs, given.rows)
            for future in done:
                _report(future)


def _report(future: Future[None]) -> None:
    """Print why a run did not end. The other runs go on."""
    try:
        future.result()
    except subprocess.TimeoutExpired:
        print("a run was cut off: the time is over", flush=True)
    except (subprocess.CalledProcessError, TrainingError) as error:
        print(f"error: {error}: see output.txt of the run", file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option, required = parser.add_argument, argparse.SUPPRESS
    names = [row.name for row in ROWS]
    option("--data", type=Path, required=True, default=required, help="images with a test split")
    option("--out", type=Path, required=True, default=required, help="folder for the results")
    option("--runs", type=Path, help="folder of the runs, 100 MB each (default: OUT/runs)")
    option("--limit", type=float, default=540, help="seconds for everything")
    option("--epochs", type=positive_int, help="epochs of a run (default: what fits the limit)")
    option("--most-epochs", type=positive_int, default=30, help="if it fits, not more than these")
    option("--probe", type=float, default=8, help="seconds in which a step is measured")
    option("--seeds", type=positive_int, default=2, help="runs of each row")
    option("--rows", nargs="+", choices=names, default=names, help="rows to train")
    option("--jobs", type=positive_int, default=4, help="runs at the same time")
    option("--recipe", default="cifar-paper", help="recipe of all runs")
    option("--precision", choices=["bf16", "fp32"], default="bf16", help="precision of all runs")
    option("--options", default="", help="more options of all runs, such as '--device cuda:1'")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison. Return the exit status: 1 if a run did not finish."""
    given = build_parser().parse_args(argv)
    end = time.monotonic() + given.limit
    rows = [Row(r.name, r.options, given.seeds, r.against) for r in ROWS if r.name in given.rows]
    wanted = runs_of(rows)
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        left = end - time.monotonic() - SECONDS_TO_WRITE
        plan = plan_of(given, given.epochs or chosen_epochs(given, wanted, left))
        train_until(wanted, plan, given, end - SECONDS_TO_WRITE)
        runs = given.runs or given.out / "runs"
        write_test(given.out, runs, rows, plan.data)
    except subprocess.CalledProcessError as error:
        print(f"error: {error}\n{error.stderr}", file=sys.stderr)
        return 1
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print((given.out / "table.txt").read_text(encoding="utf-8"))
    left_over = [run for run in wanted if not finished(run.folder(runs) / CHECKPOINT)]
    return 1 if left_over else 0


if __name__ == "__main__":
    sys.exit(main())
