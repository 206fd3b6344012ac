"""The plots of the evidence: small multiples with common axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.training.conflict import ALL
from benchmarks.training.conflict import Line as ConflictLine
from benchmarks.training.evidence.paired import Difference

COLUMNS = 4


def differences_figure(compared: Mapping[str, Difference]) -> Figure:
    """Plot the difference of each row to its baseline at each exit, one panel for each row.

    Args:
        compared: Differences on the test images, by the title of the panel.
    """
    lines = max(1, ceil(len(compared) / COLUMNS))
    plot = Figure(figsize=(2.4 * COLUMNS, 1.9 * lines + 0.4), layout="constrained")
    panels = plot.subplots(lines, COLUMNS, sharex=True, sharey=True, squeeze=False).flatten()
    for axes, (title, found) in zip(panels, compared.items(), strict=False):
        exits = np.arange(1, len(found.mean) + 1)
        axes.axhline(0, color="0.6", linewidth=0.8)
        for seed in found.seeds:
            axes.plot(exits, seed, ".", color="0.6", markersize=4)
        axes.errorbar(exits, found.mean, found.error, fmt="o-", color="C0", capsize=2, markersize=4)
        axes.set_title(title, fontsize="small")
        axes.set_xticks(exits)
    for axes in panels[len(compared) :]:
        axes.set_visible(False)
    plot.supxlabel("exit", fontsize="small")
    plot.supylabel("points of test accuracy against the baseline", fontsize="small")
    return plot


def conflict_figure(lines: Sequence[ConflictLine]) -> Figure:
    """Plot cosine and ratio of each pair of exits over the epochs, one column for each pair.

    Lines are means over seeds. Bars reach from the lowest to the highest class.
    """
    pairs = sorted({(line.shallow, line.deep) for line in lines})
    rows = list(dict.fromkeys(line.row for line in lines))
    plot = Figure(figsize=(1.7 * len(pairs) + 1, 4), layout="constrained")
    panels = plot.subplots(2, len(pairs), sharex=True, sharey="row", squeeze=False)
    for k, pair in enumerate(pairs):
        of_pair = [line for line in lines if (line.shallow, line.deep) == pair]
        panels[0, k].set_title(f"exits {pair[0]}, {pair[1]}", fontsize="small")
        panels[1, k].set_yscale("log")
        for number, row in enumerate(rows):
            own = [line for line in of_pair if line.row == row]
            for axes, name in zip(panels[:, k], ("cosine", "ratio"), strict=True):
                _draw(axes, own, name, f"C{number}")
    for axes, start in zip(panels[:, 0], (0, 1), strict=True):
        axes.set_ylabel("cosine" if start == 0 else "length, deep / shallow", fontsize="small")
    for axes in panels[0]:
        axes.axhline(0, color="0.6", linewidth=0.8)
    for axes in panels[1]:
        axes.axhline(1, color="0.6", linewidth=0.8)
    plot.supxlabel("epoch", fontsize="small")
    handles = panels[0, 0].get_lines()[: len(rows)]
    plot.legend(handles, rows, loc="outside upper center", ncols=len(rows), fontsize="small")
    return plot


def _draw(axes: Axes, lines: Sequence[ConflictLine], name: str, color: str) -> None:
    """Draw the means over seeds of a row, and the range of its classes."""
    epochs = sorted({line.epoch for line in lines})

    def means(images: str) -> list[float]:
        by_epoch = [
            [line for line in lines if line.epoch == e and line.images == images] for e in epochs
        ]
        return [float(np.mean([getattr(line, name) for line in found])) for found in by_epoch]

    axes.plot(epochs, means(ALL), "o-", color=color, markersize=3, linewidth=1)
    classes = sorted({line.images for line in lines} - {ALL})
    if classes:
        ranges = np.array([means(images) for images in classes])
        axes.vlines(epochs, ranges.min(axis=0), ranges.max(axis=0), color=color, alpha=0.4)
