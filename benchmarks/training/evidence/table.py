"""The table of the evidence: one line for each row and exit, as text and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from benchmarks.training.comparison import Row
from benchmarks.training.evidence.paired import Difference, Floats, paired, right_of
from benchmarks.training.predictions import Trained
from training.evaluation.budgeted import Curve, direct_optimum, flops_to_reach, measure
from training.evaluation.evaluate import apply_thresholds
from training.evaluation.thresholds import best_within

SHARES = (0.95, 0.98, 0.99)  # of the baseline's best accuracy
NONE = float("nan")


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the comparison at an exit, counted from 1. Accuracies in percent, NaN: not known.

    `difference` is to the row `against`, in points, by the seeds that both have. `step` is the time
    of a step over joint training's. `flops_95` is the least mean flops that reach 95 % of the best
    test accuracy of `against`, as a share of full depth's, in the mean over seeds.
    """

    row: str
    against: str
    exit: int
    seeds: int
    accuracy: float
    deviation: float
    paired_seeds: int
    difference: float
    error: float
    held_out_difference: float
    held_out_error: float
    step: float
    flops_95: float
    flops_98: float
    flops_99: float


@dataclass(frozen=True, slots=True)
class Reach:
    """The curve of a run on the test images, and the accuracy of its best thresholds there."""

    curve: Curve
    best: float
    full: float


def reach_of(run: Trained) -> Reach:
    """Solve the thresholds of a run on its held-out images, and measure them on its test split."""
    points = direct_optimum(run.held_out)
    best = apply_thresholds(run.test, np.array(best_within(points, np.inf).thresholds)).accuracy
    return Reach(measure(points, run.test), best, run.test.full_flops)


def shares_of_flops(own: Mapping[str, Reach], baseline: Mapping[str, Reach]) -> Floats:
    """Return flops_95, flops_98 and flops_99 of a row, NaN if a run never reaches them, [3]."""
    seeds = sorted(set(own) & set(baseline))
    reached = [
        [flops_to_reach(own[seed].curve, share * baseline[seed].best) for share in SHARES]
        for seed in seeds
    ]
    full = np.array([[own[seed].full] for seed in seeds])
    shares = np.array(reached, dtype=np.float64).reshape(-1, len(SHARES)) / full.reshape(-1, 1)
    return np.asarray(shares.mean(axis=0)) if seeds else np.full(len(SHARES), NONE)


def table(
    trained: Sequence[Trained], rows: Sequence[Row], steps: Mapping[str, float]
) -> list[Line]:
    """Compute the lines of all rows that have runs.

    Args:
        trained: Predictions of all runs.
        rows: Rows of the table, in order.
        steps: Time of a step over joint training's, by row.
    """
    test, held_out = right_of(trained, ["test"]), right_of(trained, ["held_out"])
    reach: dict[str, dict[str, Reach]] = {}
    for run in trained:
        reach.setdefault(run.row, {})[run.seed] = reach_of(run)
    lines: list[Line] = []
    for row in rows:
        if row.name in test:
            flops = shares_of_flops(reach[row.name], reach.get(row.against, {}))
            compared = [
                paired(right[row.name], right.get(row.against, {})) for right in (test, held_out)
            ]
            runs = np.array([100 * each.mean(axis=1) for each in test[row.name].values()])
            lines += _lines(row, runs, compared, steps.get(row.name, NONE), flops)
    return lines


def _lines(
    row: Row, runs: Floats, compared: Sequence[Difference | None], step: float, flops: Floats
) -> Iterable[Line]:
    """Yield the lines of a row, with accuracies [seeds, exits]."""
    on_test, on_held_out = compared if row.name != row.against else (None, None)
    for k, accuracy in enumerate(runs.mean(axis=0)):
        deviation = float(runs[:, k].std(ddof=1)) if len(runs) > 1 else NONE
        yield Line(
            row.name,
            row.against,
            k + 1,
            len(runs),
            float(accuracy),
            deviation,
            len(on_test.seeds) if on_test else 0,
            *_at(on_test, k, runs.shape[1]),
            *_at(on_held_out, k, runs.shape[1]),
            step,
            *flops.tolist(),
        )


def _at(found: Difference | None, k: int, exits: int) -> tuple[float, float]:
    """Return difference and error at exit k (from 0), if the baseline has that exit."""
    place = k - exits + len(found.mean) if found else -1
    if found is None or place < 0:
        return NONE, NONE
    return float(found.mean[place]), float(found.error[place])


def print_table(lines: Sequence[Line], test_images: int, held_out_images: int) -> None:
    """Print the lines of each row side by side, with one exit below the other."""
    print(f"\n{'row':30}{'exit':>5}{'seeds':>6}{'accuracy, %':>16}{'difference':>18}", end="")
    print(f"{'held-out':>18}{'step':>7}" + "".join(f"{f'{s:.0%}':>8}" for s in SHARES))
    for line in lines:
        name = line.row if line.exit == 1 else ""
        if line.exit == 2 and line.row != line.against:
            name = f"  against {line.against}"
        deviation = "" if np.isnan(line.deviation) else f" ±{line.deviation:4.2f}"
        cells = f"{name:30}{line.exit:5}{line.seeds:6}{f'{line.accuracy:.2f}{deviation}':>16}"
        cells += f"{_signed(line.difference, line.error):>18}"
        cells += f"{_signed(line.held_out_difference, line.held_out_error):>18}"
        ends = (line.step, line.flops_95, line.flops_98, line.flops_99) if line.exit == 1 else ()
        widths = (7, 8, 8, 8)
        cells += "".join(f"{_plain(each):>{w}}" for each, w in zip(ends, widths, strict=False))
        print(cells)
    print(
        f"accuracy and difference in points on {test_images:,} test images, ± deviation over seeds "
        f"and ± standard error; held-out: the difference on {held_out_images:,} images; step: time "
        "over joint training's; percentages: share of full depth's flops that reach this part of "
        "the baseline's best accuracy"
    )


def _signed(value: float, error: float) -> str:
    return "" if np.isnan(value) else f"{value:+.2f} ±{error:.2f}"


def _plain(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"


def write_summary(path: Path, lines: Sequence[Line]) -> None:
    """Write the lines as CSV, with empty cells for what is not known."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Line)])
        writer.writeheader()
        for line in lines:
            writer.writerow({name: _cell(value) for name, value in asdict(line).items()})


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if np.isnan(value) else round(value, 4)
    return value


def write_runs(path: Path, trained: Sequence[Trained]) -> None:
    """Write the accuracies of every run at every exit as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "exit", "flops", "test_accuracy", "held_out_accuracy"])
        for run in trained:
            sets = run.test.right.mean(axis=1), run.held_out.right.mean(axis=1)
            for k, (test, held_out) in enumerate(zip(*sets, strict=True), 1):
                cells = int(run.test.flops[k - 1]), round(float(test), 6), round(float(held_out), 6)
                writer.writerow([run.row, run.seed, k, *cells])
