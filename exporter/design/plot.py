"""Accuracy of networks and chains against milliseconds and against flops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from exporter.design.chains import Chain, Point
from exporter.design.choice import Alone, Proposal

mpl.use("agg")
Cost = Callable[[Point], float]


def design_figure(
    alone: Sequence[Alone], found: Sequence[Chain], proposal: Proposal, title: str
) -> Figure:
    """Draw all networks and chains, with the proposed chain in colour."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, alone, found, proposal, lambda point: point.milliseconds)
    _draw(right, alone, found, proposal, lambda point: point.flops / 1e6)
    left.set(xlabel="mean milliseconds for one image, one thread", ylabel="accuracy, %")
    right.set_xlabel("mean flops for one image, millions of multiply-adds")
    left.legend(loc="lower right", fontsize=8)
    figure.suptitle(title)
    return figure


def _draw(
    axes: Axes, alone: Sequence[Alone], found: Sequence[Chain], proposal: Proposal, cost: Cost
) -> None:
    label: str | None = "chains"
    for chain in found:
        if chain.networks != proposal.networks:
            _line(axes, chain, cost, "0.75", label, width=1)
            label = None
    for chain in found:
        if chain.networks == proposal.networks:
            _line(axes, chain, cost, "C0", chain.name, marker=".")
    for number, name in enumerate(dict.fromkeys(each.network.name for each in alone)):
        points = [each.point for each in alone if each.network.name == name]
        x = [cost(point) for point in points]
        y = [100 * point.accuracy.value for point in points]
        colour = f"C{(number + 2) % 10}"
        label = f"{name}, {'each exit' if len(points) > 1 else 'all images'}"
        axes.plot(x, y, linestyle="none", marker="x", color=colour, label=label)
    place = (cost(proposal.point), 100 * proposal.point.accuracy.value)
    axes.plot(*place, marker="o", color="C1", markersize=9, linestyle="none", label="proposed")
    axes.margins(x=0.1)
    axes.grid(alpha=0.3)


def _line(
    axes: Axes,
    chain: Chain,
    cost: Cost,
    colour: str,
    label: str | None,
    *,
    width: float = 1.5,
    marker: str = "",
) -> None:
    x = [cost(point) for point in chain.points]
    y = [100 * point.accuracy.value for point in chain.points]
    axes.plot(x, y, color=colour, label=label, linewidth=width, marker=marker, markersize=4)
