"""Choose the score that answers are rejected by, and fit its thresholds. Pure NumPy.

Scores of pictures of the classes (`inside`, held-out images) are higher than those of photos of
other things (`outside`), as far as the network can tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.errors import ExportError
from offramp.bundle.reject import Auroc, ScoreName

FOLDS = 5
Z = 1.96  # 95 %, two-sided
Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of every exit: `inside` [exits, N] and `outside` [exits, M]."""

    inside: Floats
    outside: Floats

    def select(self, inside: Mask, outside: Mask) -> Scores:
        """Select images by masks, [N] and [M]."""
        return Scores(self.inside[:, inside], self.outside[:, outside])

    @property
    def aurocs(self) -> Floats:
        """Area under the ROC curve of each exit, [exits]."""
        return np.array([auroc(*pair) for pair in zip(self.inside, self.outside, strict=True)])


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Measurements in which nothing was fitted on the images that it is measured on.

    Attributes:
        aurocs: Area under the ROC curve of each exit, [exits], of the score chosen on other images.
        rejected: Whether each exit rejects each held-out image, bool [exits, N].
    """

    aurocs: Floats
    rejected: Mask


def auroc(inside: Floats, outside: Floats) -> float:
    """Return the probability that a score inside [N] exceeds one outside [M]. Ties count half."""
    ordered = np.sort(outside)
    below = np.searchsorted(ordered, inside, "left") + np.searchsorted(ordered, inside, "right")
    return float(below.mean() / (2 * len(outside)))


def auroc_interval(value: float, inside: int, outside: int) -> Auroc:
    """Return an area under the ROC curve with its 95 % confidence interval.

    Source: Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2" (Statistics in Medicine 25, 2006), method 5. It has a width at 0 and 1 too.

    Args:
        value: The area that was measured.
        inside: Number of images of the classes.
        outside: Number of photos of other things.
    """
    low = _bound(value, 0.0, inside, outside) if value > 0 else 0.0
    high = _bound(value, 1.0, inside, outside) if value < 1 else 1.0
    return Auroc(value=value, low=low, high=high)


def _bound(value: float, end: float, inside: int, outside: int) -> float:
    """Return the area between `value` and `end` at which `value` is Z standard errors away."""
    near, far = value, end
    for _ in range(60):
        middle = (near + far) / 2
        if abs(value - middle) < Z * _standard_error(middle, inside, outside):
            near = middle
        else:
            far = middle
    return (near + far) / 2


def _standard_error(area: float, inside: int, outside: int) -> float:
    half = (inside + outside) / 2 - 1
    spread = 1 + half * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * spread / (inside * outside))


def threshold(inside: Floats, rate: float) -> float:
    """Return a threshold that at most a share `rate` of the scores [N] is below, ties included.

    It is midway between two scores, so that rounding on another processor changes no answer.
    """
    ordered = np.sort(inside.astype(np.float64))
    first_kept = ordered[min(int(rate * len(ordered)), len(ordered) - 1)]
    below = ordered[ordered < first_kept]
    return float((first_kept + below[-1]) / 2) if len(below) else float(first_kept)


def thresholds(scores: Scores, rate: float) -> Floats:
    """Return the threshold of each exit, [exits]."""
    return np.array([threshold(each, rate) for each in scores.inside])


def best_score(found: Mapping[ScoreName, Scores]) -> ScoreName:
    """Return the score with the largest area under the ROC curve, in the mean over all exits."""
    return max(found, key=lambda name: float(found[name].aurocs.mean()))


def cross_fit(found: Mapping[ScoreName, Scores], rate: float) -> CrossFit:
    """Choose score and thresholds on four fifths of the images, measure on the rest, in turn.

    Args:
        found: The scores to choose from, on the same images.
        rate: Share of the images inside that an exit can reject.

    Raises:
        ExportError: There are too few images inside.
    """
    first = next(iter(found.values()))
    if (images := first.inside.shape[1]) < FOLDS:
        raise ExportError(
            f"--reject: takes at least {FOLDS} held-out images, and there are {images}"
        )
    areas, rejected = [], np.empty(first.inside.shape, dtype=bool)
    for inside, outside in _folds(first.inside.shape[1], first.outside.shape[1]):
        others = {name: each.select(~inside, ~outside) for name, each in found.items()}
        name = best_score(others)
        part = found[name].select(inside, outside)
        areas.append(part.aurocs)
        rejected[:, inside] = part.inside < thresholds(others[name], rate)[:, None]
    return CrossFit(np.mean(areas, axis=0), rejected)


def _folds(inside: int, outside: int) -> Iterator[tuple[Mask, Mask]]:
    for fold in range(FOLDS):
        yield np.arange(inside) % FOLDS == fold, np.arange(outside) % FOLDS == fold
