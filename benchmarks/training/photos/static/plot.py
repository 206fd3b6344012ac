"""Accuracy of static networks and chains against milliseconds and against flops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.training.photos.static.points import Point

mpl.use("agg")
Cost = Callable[[Point], float]


def figure(points: Sequence[Point], title: str) -> Figure:
    """Draw static networks as dots with 95 % intervals, and chains as lines."""
    made = Figure(figsize=(12, 6), layout="constrained")
    left, right = made.subplots(1, 2, sharey=True)
    _draw(left, points, lambda point: point.ms)
    _draw(right, points, lambda point: point.flops / 1e6)
    left.set(xlabel="mean milliseconds for one image, one thread", ylabel="test accuracy, %")
    right.set_xlabel("mean flops for one image, millions of multiply-adds")
    right.legend(loc="lower right")
    made.suptitle(title)
    return made


def _draw(axes: Axes, points: Sequence[Point], cost: Cost) -> None:
    static = [point for point in points if point.kind == "static"]
    for number, row in enumerate(dict.fromkeys(p.row for p in points if p.kind == "chain")):
        line = [point for point in points if point.row == row]
        xs, ys = [cost(point) for point in line], [100 * point.accuracy for point in line]
        axes.plot(xs, ys, ".-", color=f"C{number}", label=row, zorder=2)
    ys = [100 * point.accuracy for point in static]
    errors = [
        [100 * (point.accuracy - point.low) for point in static],
        [100 * (point.high - point.accuracy) for point in static],
    ]
    axes.errorbar(
        [cost(point) for point in static],
        ys,
        errors,
        fmt="o",
        color="black",
        ecolor="lightgrey",
        label="static network, alone",
        zorder=3,
    )
    for point, y in zip(static, ys, strict=True):
        place = (cost(point), y)
        axes.annotate(point.row, place, (5, -11), textcoords="offset points", fontsize=8)
    axes.grid(alpha=0.3)
