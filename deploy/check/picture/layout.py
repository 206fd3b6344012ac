"""Places of the dashboard's panels in the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deploy.check.dashboard import Shown

ACROSS, IN_ROW = 24, 3
MARGINS = {"stat": (0.2, 0.2, 0.9, 0.4), "lines": (1.0, 0.25, 0.9, 1.7)}  # left, right, up, down


@dataclass(frozen=True, slots=True)
class Place:
    """Position and size of a panel, in units of the dashboard's grid."""

    x: float
    y: float
    width: float
    height: float


def places(shown: Sequence[Shown]) -> Iterator[tuple[Shown, Place]]:
    """Yield each panel with its place. Repeated panels are side by side and move others down."""
    offset = 0.0
    for title in dict.fromkeys(each.panel["title"] for each in shown):
        group = [each for each in shown if each.panel["title"] == title]
        at = group[0].panel["gridPos"]
        x, y, width, height = at.get("x", 0), at.get("y", 0) + offset, at["w"], at["h"]
        if len(group) > 1:
            rows = math.ceil(len(group) / IN_ROW)
            offset, width = offset + (rows - 1) * height, ACROSS / IN_ROW
        for k, panel in enumerate(group):
            right, down = (k % IN_ROW, k // IN_ROW) if len(group) > 1 else (0, 0)
            yield panel, Place(x + right * width, y + down * height, width, height)


def inside(place: Place, height: float, shown: Shown) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of the axes as shares of the figure.

    Title, ticks and legend have room around them.
    """
    left, right, above, below = MARGINS["stat" if shown.panel["type"] == "stat" else "lines"]
    return (
        (place.x + left) / ACROSS,
        1 - (place.y + place.height - below) / height,
        (place.width - left - right) / ACROSS,
        (place.height - above - below) / height,
    )
