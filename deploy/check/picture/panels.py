"""Drawing of the dashboard's panels with Matplotlib in place of Grafana."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from PIL import Image

from deploy.check.dashboard import Shown, is_counted, legend, panels
from deploy.check.picture.layout import ACROSS, inside, places
from deploy.check.prometheus import Prometheus, Series

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

BUDGETS = ["low", "medium", "full", "numeric", "min_confidence", "promise-99"]
INCHES = 0.42  # height of a grid unit
LETTERS, LINE = 16, 10  # of a legend in the width of a grid unit, and that its line takes
LATEST = 30.0  # seconds before the end in which a series has a number if it did not end
BEYOND = re.compile("(?:^| )(expected|limit|seen|at least|at most)$")
STYLES = {"expected": "--", "limit": "--", "at least": ":", "at most": ":"}
COLORS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0")


def written(value: float, unit: str) -> str:
    """Format a number with its unit as Grafana does."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    step, names = (1024, ("", "Ki", "Mi", "Gi")) if unit == "bytes" else (1000, ("", "K", "M", "G"))
    power = 0 if value == 0 else min(3, max(0, int(math.log(abs(value), step))))
    name = {"short": "", "reqps": "req/s", "bytes": "B"}.get(unit, unit.removeprefix("si: "))
    return f"{value / step**power:.3g} {names[power]}{name}".rstrip()


@dataclass(frozen=True, slots=True)
class Line:
    """A series and its name in the legend."""

    name: str
    series: Series


def _lines(shown: Shown, prometheus: Prometheus, start: float, end: float) -> list[Line]:
    lines = [
        Line(legend(name, series), series)
        for expression, name in shown.queries
        for series in prometheus.between(expression, start, end, 5)
    ]
    return [line for line in lines if any(math.isfinite(v) for v in line.series.values)]


def _numbers(axes: Axes, lines: Sequence[Line], unit: str, end: float) -> None:
    """Draw the last number of each series, with its past if there is one only."""
    axes.axis("off")
    last = [line for line in lines if line.series.times[-1] > end - LATEST]
    if len(last) == 1:
        values = last[0].series.values
        axes.fill_between(range(len(values)), values, color=COLORS[2], alpha=0.25)
        axes.set_ylim(0, max(max(v for v in values if math.isfinite(v)) * 3, 1e-9))
    for number, line in enumerate(last):
        value = next(v for v in reversed(line.series.values) if math.isfinite(v))
        name = f"{line.name}  " if len(last) > 1 else ""
        axes.text(
            (number + 0.5) / len(last),
            0.6,
            f"{name}{written(value, unit)}",
            ha="center",
            va="center",
            fontsize=14 if name else 22,
            transform=axes.transAxes,
        )


def _on(grid: Sequence[float], series: Series) -> list[float]:
    known = dict(zip(series.times, series.values, strict=True))
    return [known[at] if math.isfinite(known.get(at, math.nan)) else 0.0 for at in grid]


def _curves(axes: Axes, lines: Sequence[Line], custom: dict[str, Any], start: float) -> None:
    names = list(dict.fromkeys(BEYOND.sub("", line.name) for line in lines))
    colors = dict(zip(names, COLORS * 9, strict=False))
    if custom.get("stacking", {}).get("mode") == "normal":
        grid = sorted({at for line in lines for at in line.series.times})
        minutes = [(at - start) / 60 for at in grid]
        stack = [_on(grid, line.series) for line in lines]
        names = [line.name for line in lines]
        axes.stackplot(minutes, stack, labels=names, colors=COLORS, alpha=0.75)
        return
    for line in lines:
        color, beyond = colors[BEYOND.sub("", line.name)], BEYOND.search(line.name)
        minutes = [(at - start) / 60 for at in line.series.times]
        style = STYLES.get(beyond[1], "-") if beyond else "-"
        axes.plot(minutes, line.series.values, style, color=color, label=line.name, linewidth=1.2)


def _panel(axes: Axes, shown: Shown, lines: Sequence[Line], start: float, end: float) -> None:
    settings = shown.panel["fieldConfig"]["defaults"]
    unit, custom = settings["unit"], settings.get("custom", {})
    axes.set_title(shown.title, loc="left", fontsize=9, fontweight="bold")
    if shown.panel["type"] == "stat":
        _numbers(axes, lines, unit, end)
        return
    if not lines:
        axes.text(0.5, 0.5, "No data", ha="center", va="center", transform=axes.transAxes)
    _curves(axes, lines, custom, start)
    axes.set_xlim(0, (end - start) / 60)
    axes.set_ylim(0, settings.get("max", axes.get_ylim()[1] * 1.05))
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in settings["thresholds"]["steps"][1:]:
            axes.axhline(step["value"], color=step["color"], linestyle="--", linewidth=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: written(value, unit)))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.15)
    if lines:
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.09),
            ncols=_columns(lines, ACROSS * axes.get_position().width),
            fontsize=6,
            frameon=False,
        )


def _columns(lines: Sequence[Line], width: float) -> int:
    """Return the number of columns of a legend below a panel, by its longest name."""
    longest = max(len(line.name) for line in lines)
    return max(1, min(len(lines), int(width * LETTERS / (longest + LINE))))


def _counted(prometheus: Prometheus, start: float, end: float) -> list[Shown]:
    """Return the panels of metrics that the machine has, and the rows that have a panel."""
    kept = [
        shown
        for shown in panels(BUDGETS)
        if all(is_counted(prometheus, expression, start, end) for expression, _ in shown.queries)
    ]
    following = [*kept[1:], None]
    return [
        shown
        for shown, after in zip(kept, following, strict=True)
        if shown.queries or (after is not None and after.queries)
    ]


def draw(prometheus: Prometheus, start: float, end: float, out: Path) -> None:
    """Draw all panels in Grafana's layout and write the picture."""
    plt.style.use("dark_background")
    placed = list(places(_counted(prometheus, start, end)))
    height = max(place.y + place.height for _, place in placed)
    figure = plt.figure(figsize=(18, height * INCHES), facecolor="#111217")
    for shown, place in placed:
        if shown.panel["type"] == "row":
            down = 1 - (place.y + 0.7) / height
            figure.text(0.008, down, shown.title, fontsize=13, color="#ccccdc", weight="bold")
            continue
        axes = figure.add_axes(inside(place, height, shown), facecolor="#181b1f")
        _panel(axes, shown, _lines(shown, prometheus, start, end), start, end)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=80)
    Image.open(out).convert("RGB").quantize(64).save(out, optimize=True)
