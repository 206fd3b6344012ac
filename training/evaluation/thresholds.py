"""Calibration: a temperature for each exit, and thresholds for a budget.

Both are solved on held-out images that the network was not trained on. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds

P = TypeVar("P")

# A threshold that no confidence reaches: no image leaves at this exit.
NEVER = 2.0

# The ratios of the MSDNet procedure: 1/20, 2/20 ... 40/20.
RATIOS = np.arange(1, 41) / 20


def fit_temperature(logits: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """Find the temperature that minimises the cross-entropy of softmax(logits / temperature).

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.
    The cross-entropy is convex in 1 / temperature. Bisection finds the root of its slope.

    Args:
        logits: Logits or log-probabilities [N, classes], up to a constant for each image.
        targets: Labels, int64 [N].

    Returns:
        The temperature, in [0.05, 20].
    """
    centred = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    own = centred[np.arange(len(targets)), targets]
    low, high = np.log(0.05), np.log(20.0)
    for _ in range(60):
        middle = (low + high) / 2
        weights = np.exp(centred * np.exp(middle))
        weights /= weights.sum(axis=1, keepdims=True)
        slope = ((weights * centred).sum(axis=1) - own).mean()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def msdnet_thresholds(scored: Scored, ratio: float) -> Floats:
    """Solve thresholds that let a share of images in proportion to ratio^k leave at exit k.

    Source: the budgeted batch procedure of MSDNet (ICLR 2018, section 5 and the reference
    code). If fewer images remain than should leave, no image leaves. A threshold is midway
    between the confidences of the last image that leaves and the first that continues.

    Args:
        scored: Held-out images.
        ratio: Ratio of neighbouring exits' shares. Below 1, more images leave early.

    Returns:
        Thresholds, float64 [exits], the last of them 0.
    """
    exits = len(scored.flops)
    shares = ratio ** np.arange(1, exits + 1)
    counts = np.floor(scored.images * shares / shares.sum()).astype(int)
    thresholds = np.zeros(exits)
    continuing = np.ones(scored.images, dtype=bool)
    for k in range(exits - 1):
        confidence = scored.confidence[k].astype(np.float64)
        thresholds[k] = _threshold_after(np.sort(confidence[continuing])[::-1], counts[k])
        continuing &= confidence < thresholds[k]
    return thresholds


def _threshold_after(descending: Floats, count: int) -> float:
    """Return a threshold that the first `count` of these confidences pass, with all their ties."""
    if not 0 < count <= len(descending):
        return NEVER
    last = descending[count - 1]
    below = descending[descending < last]
    return float((last + below[0]) / 2) if len(below) else 0.0


def improve_thresholds(scored: Scored, thresholds: Floats, price: float) -> Floats:
    """Find a (local) maximum of accuracy - price * mean flops / full flops over thresholds.

    The mean flops include a head's cost for images that do not leave at its exit.

    Changes one exit at a time, with the others fixed. A scan over the sorted confidences finds the
    best threshold of an exit. Stops when no threshold changes.

    Args:
        scored: Held-out images.
        thresholds: Start of the search, float64 [exits].
        price: Gain in accuracy that justifies the flops of full depth.
    """
    current = thresholds.copy()
    for _ in range(20):
        before = current.copy()
        for k in range(len(current) - 1):
            current[k] = _best_threshold(scored, price / scored.full_flops, current, k)
        if np.array_equal(before, current):
            break
    return current


def _best_threshold(scored: Scored, price: float, thresholds: Floats, k: int) -> float:
    """Find the best threshold of exit k (from 0), others fixed, at a `price` for one flop."""
    evaluated = thresholds <= 1
    evaluated[k] = False
    without = scored.flops_evaluating(evaluated)
    evaluated[k] = True
    # Each image that reaches exit k pays for its head, and for its network if it is another one.
    extra = price * (scored.flops_evaluating(evaluated) - without)
    worth = scored.right - price * without[:, None]
    passed = scored.confidence.astype(np.float64) >= thresholds[:, None]
    passed[-1] = True
    reach = ~passed[:k].any(axis=0)
    later = k + 1 + passed[k + 1 :, reach].argmax(axis=0)
    # `worth` has this cost for the images that leave at exit k alone
    gain = worth[k, reach] - worth[later, np.flatnonzero(reach)] + extra[later]
    confidence = scored.confidence[k, reach].astype(np.float64)
    return _most_gain(confidence, gain, extra[later].sum())


def _most_gain(confidence: Floats, gain: Floats, least: float) -> float:
    """Return the threshold with the largest sum of gains above it, or NEVER up to `least`."""
    order = np.argsort(-confidence, kind="stable")
    descending, total = confidence[order], np.cumsum(gain[order])
    # a threshold separates two different confidences; these are the last ones that pass it
    lasts = np.flatnonzero(descending[:-1] > descending[1:])
    lasts = np.append(lasts, len(total) - 1)
    if len(total) == 0 or total[lasts].max() <= least:
        return NEVER
    return _threshold_after(descending, int(lasts[total[lasts].argmax()]) + 1)


def baseline_curve(scored: Scored) -> list[Tradeoff]:
    """Run the MSDNet procedure at its 40 ratios, from early exits to late exits."""
    return [apply_thresholds(scored, msdnet_thresholds(scored, ratio)) for ratio in RATIOS]


def each_exit(scored: Scored) -> list[Tradeoff]:
    """Let every image leave at one exit, for each exit in turn."""
    exits = len(scored.flops)
    alone = [np.where(np.arange(exits) >= k, 0.0, NEVER) for k in range(exits)]
    return [apply_thresholds(scored, thresholds) for thresholds in alone]


def candidates(scored: Scored) -> list[Tradeoff]:
    """Return operating points to choose from: the baseline, improved points, each exit alone.

    They include the points of the baseline, so the best choice is never worse on these images.
    """
    starts = [msdnet_thresholds(scored, ratio) for ratio in np.geomspace(0.05, 5.0, 3)]
    improved = [
        apply_thresholds(scored, improve_thresholds(scored, start, price))
        for start in starts
        for price in np.geomspace(0.002, 1.0, 24)
    ]
    return [*baseline_curve(scored), *improved, *each_exit(scored)]


def pareto(tradeoffs: Iterable[Tradeoff]) -> list[Tradeoff]:
    """Return the Pareto front in flops and accuracy, in order of mean flops."""
    return front(tradeoffs, lambda t: t.mean_flops, lambda t: t.accuracy)


def front(points: Iterable[P], cost: Callable[[P], float], value: Callable[[P], float]) -> list[P]:
    """Return the points whose value no cheaper one reaches, in order of cost (Pareto front)."""
    found: list[P] = []
    for point in sorted(points, key=lambda each: (cost(each), -value(each))):
        if not found or value(point) > value(found[-1]):
            found.append(point)
    return found


def best_within(tradeoffs: Sequence[Tradeoff], flops: float) -> Tradeoff:
    """Return the most accurate tradeoff at no more than `flops`, else the cheapest of all."""
    affordable = [t for t in tradeoffs if t.mean_flops <= flops]
    if not affordable:
        return min(tradeoffs, key=lambda t: t.mean_flops)
    return max(affordable, key=lambda t: (t.accuracy, -t.mean_flops))
