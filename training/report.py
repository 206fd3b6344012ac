"""What a person would rather see than read: a run's log and its curves."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from training.checkpoint import Progress

mpl.use("agg")


def write_report(folder: Path, progress: Progress) -> None:
    """Write `log.csv` and `accuracy.svg` of the epochs so far."""
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        exits = range(1, len(progress.epochs[0].accuracies) + 1)
        writer.writerow(["epoch", "loss", *(f"accuracy_exit_{k}" for k in exits), "seconds"])
        for epoch in progress.epochs:
            writer.writerow([epoch.number, epoch.loss, *epoch.accuracies, round(epoch.seconds, 1)])
    accuracy_figure(progress).savefig(folder / "accuracy.svg")


def accuracy_figure(progress: Progress) -> Figure:
    """Held-out accuracy of every exit over the epochs."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    numbers = [epoch.number for epoch in progress.epochs]
    for k, curve in enumerate(zip(*(e.accuracies for e in progress.epochs), strict=True), 1):
        axes.plot(numbers, [100 * a for a in curve], marker=".", label=f"exit {k}")
    axes.set(xlabel="epoch", ylabel="held-out accuracy, %", title=progress.recipe_name)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
