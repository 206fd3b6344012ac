"""The figures of a run's report, as SVG without external references."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.evaluation.assessment import Assessment, ExitQuality, SetAssessment
from training.evaluation.budgeted import Curve
from training.evaluation.evaluate import Floats
from training.fit.checkpoint import Epoch

mpl.use("agg")

COLOURS = ("C0", "0.45", "C3")
MEASURES = ("accuracy", "agreement with full depth")
NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def svg(figure: Figure) -> str:
    """Return a figure as one `<svg>` element, for a file or inside a page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata=NOTHING)
    drawn = file.getvalue()
    return drawn[drawn.index("<svg") :]


def epochs_figure(epochs: Sequence[Epoch]) -> Figure:
    """Draw the held-out accuracy of every exit, and the loss, over the epochs."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    accuracy, loss = figure.subplots(1, 2, width_ratios=(3, 2))
    numbers = [epoch.number for epoch in epochs]
    for k, curve in enumerate(zip(*(e.accuracies for e in epochs), strict=True), 1):
        accuracy.plot(numbers, [100 * a for a in curve], marker=".", label=f"exit {k}")
    accuracy.set(xlabel="epoch", ylabel="held-out accuracy, %")
    accuracy.legend(fontsize="small", ncols=math.ceil(len(accuracy.lines) / 7))
    loss.plot(numbers, [epoch.loss for epoch in epochs], marker=".", color="0.3")
    loss.set(xlabel="epoch", ylabel="training loss")
    for axes in (accuracy, loss):
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return figure


def reliability_figure(assessed: SetAssessment) -> Figure:
    """Draw accuracy against confidence for each exit, before and after its temperature."""
    exits = len(assessed.exits)
    columns = min(exits, 4)
    rows = math.ceil(exits / columns)
    figure = Figure(figsize=(2.3 * columns, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[exits:]:
        axes.set_axis_off()
    for k, quality in enumerate(assessed.exits):
        _draw_reliability(grid.flat[k], quality)
        grid.flat[k].set(title=f"exit {k + 1}", aspect="equal")
    grid[0, 0].legend(fontsize="small")
    figure.supxlabel("confidence", fontsize="medium")
    figure.supylabel("accuracy", fontsize="medium")
    return figure


def _draw_reliability(axes: Axes, quality: ExitQuality) -> None:
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, bins, colour in (
        ("before", quality.raw, "0.45"),
        ("after", quality.calibrated, "C0"),
    ):
        filled = bins.images > 0
        x, y = bins.confidence[filled], bins.accuracy[filled]
        axes.plot(x, y, ".-", color=colour, label=name)
    axes.grid(alpha=0.3)


def budgeted_figure(assessment: Assessment, flops: Floats) -> Figure:
    """Draw accuracy, and agreement with full depth, against mean flops for every procedure.

    Each set has a column. With pseudo-labels both would be the same, and accuracy is drawn alone.
    """
    sets = assessment.sets
    rows = 1 if assessment.pseudo else 2
    figure = Figure(figsize=(5 * len(sets) + 1, 3.6 * rows + 0.4), layout="constrained")
    grid = figure.subplots(rows, len(sets), squeeze=False, sharex="col", sharey="row")
    for axes, assessed in zip(grid[0], sets, strict=True):
        _draw_curves(axes, assessed.curves)
        accuracies = [100 * quality.accuracy for quality in assessed.exits]
        axes.plot(flops / 1e6, accuracies, "o", color=COLOURS[-1])
        axes.set(title=f"{assessed.name}, n = {assessed.images:,}")
        axes.legend(loc="lower right", fontsize="small")
    for axes, assessed in zip(grid[1:].flat, sets, strict=rows == 2):
        _draw_curves(axes, assessed.agreement)
    for axes, measure in zip(grid[:, 0], MEASURES, strict=False):
        axes.set_ylabel(f"{measure}, %")
    figure.supxlabel("mean flops for one image, millions of multiply-adds", fontsize="medium")
    return figure


def _draw_curves(axes: Axes, curves: Mapping[str, Curve]) -> None:
    for (name, curve), colour in zip(curves.items(), COLOURS, strict=True):
        axes.plot(curve.flops / 1e6, 100 * curve.accuracy, label=name, color=colour)
    axes.grid(alpha=0.3)
