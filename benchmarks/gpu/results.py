"""The results of runs that can be unfinished: accuracy by epoch, and differences of rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.training.comparison import Row, Run
from benchmarks.training.evidence.paired import paired, right_of
from benchmarks.training.predictions import read_all
from training.errors import CheckpointError, DataError
from training.fit.checkpoint import Progress, load_progress
from training.output_folder import CHECKPOINT

EPOCHS, TABLE, RIGHT = "epochs.csv", "table.txt", "right.npz"
# rows, and what the second minus the first tells
PAIRS = (
    ("joint-plain", "released-plain", "surgery, without regularisation"),
    ("joint-regularised", "released-regularised", "surgery, with regularisation"),
    ("joint-plain", "joint-regularised", "regularisation, joint"),
    ("released-plain", "released-regularised", "regularisation, released"),
)


def progress_of(runs: Path, row: str) -> dict[str, Progress]:
    """Return the progress of the runs of a row that finished an epoch, by seed."""
    found = {}
    for path in sorted((runs / row).glob(f"seed*/{CHECKPOINT}")):
        try:
            progress = load_progress(path)
        except CheckpointError:
            continue
        if progress.epochs:
            found[path.parent.name] = progress
    return found


def write_epochs(out: Path, runs: Path, wanted: Sequence[Run]) -> None:
    """Write the held-out accuracy of all runs at each epoch and exit as CSV."""
    with (out / EPOCHS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "epoch", "epochs", "exit", "held_out_accuracy", "seconds"])
        for row in dict.fromkeys(run.row.name for run in wanted):
            for seed, progress in progress_of(runs, row).items():
                for epoch in progress.epochs:
                    for k, accuracy in enumerate(epoch.accuracies, 1):
                        cells = epoch.number, progress.recipe.epochs, k, round(accuracy, 5)
                        writer.writerow([row, seed, *cells, round(epoch.seconds, 1)])


def write_table(out: Path, runs: Path, rows: Sequence[str]) -> None:
    """Write differences of rows on the held-out images, at the last epoch that both have."""
    progress = {row: progress_of(runs, row) for row in rows}
    lines = ["held-out accuracy, points, by exit; at the last epoch that both rows have"]
    for first, second, text in PAIRS:
        one, other = progress.get(first, {}), progress.get(second, {})
        for seed in sorted(set(one) & set(other)):
            at = min(len(one[seed].epochs), len(other[seed].epochs))
            accuracies = [np.array(p[seed].epochs[at - 1].accuracies) for p in (one, other)]
            cells = "  ".join(f"{100 * d:+6.2f}" for d in accuracies[1] - accuracies[0])
            lines.append(f"{text:34} {seed} epoch {at:2}/{one[seed].recipe.epochs}  {cells}")
    (out / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_test(out: Path, runs: Path, rows: Sequence[Row], data: str) -> None:
    """Add paired differences on the test images, of the runs that are finished, to the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        trained = read_all(runs, data, [row.name for row in rows], device)
    except DataError as error:
        print(f"no differences on test images: {error}", flush=True)
        return
    right = right_of(trained, ["test"])
    arrays = {f"{run.row}/{run.seed}": run.test.right for run in trained}
    np.savez_compressed(out / RIGHT, allow_pickle=False, **arrays)
    lines = [f"\ntest accuracy of finished runs, %, {trained[0].test.images:,} images, by exit"]
    for row, seeds in right.items():
        means = 100 * np.mean([each.mean(axis=1) for each in seeds.values()], axis=0)
        lines.append(f"{row:34} {len(seeds)} seeds  " + "  ".join(f"{m:6.2f}" for m in means))
    for first, second, text in PAIRS:
        if found := paired(right.get(second, {}), right.get(first, {})):
            pairs = zip(found.mean, found.error, strict=True)
            cells = "  ".join(f"{mean:+.2f} ±{error:.2f}" for mean, error in pairs)
            lines.append(f"{text:34} {len(found.seeds)} seeds  {cells}")
    with (out / TABLE).open("a", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
