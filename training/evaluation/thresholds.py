"""Calibration: a temperature for each exit, and thresholds for a budget.

Everything is solved on held-out images that the network was not trained on. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from training.evaluation.evaluate import Floats, Scored, Tradeoff, apply_thresholds

# A threshold that no confidence reaches: nobody leaves at this exit.
NEVER = 2.0

# The ratios of the MSDNet procedure: 1/20, 2/20 ... 40/20.
RATIOS = np.arange(1, 41) / 20


def fit_temperature(logits: NDArray[np.floating], targets: NDArray[np.int64]) -> float:
    """The temperature that gives softmax(logits / temperature) the smallest cross-entropy.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2.
    The cross-entropy is convex in 1 / temperature; its slope's root is found by bisection.

    Args:
        logits: [N, classes], up to a constant for each image; log-probabilities will do.
        targets: int64 [N].

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
    """Thresholds by which exit k takes a share in proportion to ratio^k.

    Source: the budgeted batch procedure of MSDNet (ICLR 2018, section 5 and the reference
    code). Where fewer images are left than should leave, none does. A threshold lies midway
    between the confidences of the last image to leave and the first to stay.

    Args:
        scored: the held-out images.
        ratio: below 1 sends more images out early, above 1 late.

    Returns:
        float64 [exits]; the last is 0.
    """
    exits = len(scored.flops)
    shares = ratio ** np.arange(1, exits + 1)
    counts = np.floor(scored.images * shares / shares.sum()).astype(int)
    thresholds = np.zeros(exits)
    staying = np.ones(scored.images, dtype=bool)
    for k in range(exits - 1):
        confidence = scored.confidence[k].astype(np.float64)
        thresholds[k] = _cut_after(np.sort(confidence[staying])[::-1], counts[k])
        staying &= confidence < thresholds[k]
    return thresholds


def _cut_after(descending: Floats, count: int) -> float:
    """A threshold that the first `count` of these confidences pass; ties pass together."""
    if not 0 < count <= len(descending):
        return NEVER
    last = descending[count - 1]
    below = descending[descending < last]
    return float((last + below[0]) / 2) if len(below) else 0.0


def improve_thresholds(scored: Scored, thresholds: Floats, price: float) -> Floats:
    """Thresholds at a (local) maximum of accuracy - price * mean flops / full flops.

    What an exit's head costs whoever asks it in vain is in the mean flops.

    One exit at a time, the others fixed, the best of all cuts is found by a scan over the
    sorted confidences, until no exit moves.

    Args:
        scored: the held-out images.
        thresholds: where to start, float64 [exits].
        price: accuracy that the flops of full depth must bring.
    """
    current = thresholds.copy()
    for _ in range(20):
        before = current.copy()
        for k in range(len(current) - 1):
            current[k] = _best_cut(scored, price / scored.full_flops, current, k)
        if np.array_equal(before, current):
            break
    return current


def _best_cut(scored: Scored, price: float, thresholds: Floats, k: int) -> float:
    """The best threshold of exit k (from 0), every other one being fixed; `price` of one flop."""
    asked = thresholds <= 1
    asked[k] = False
    worth = scored.right - price * scored.flops_asking(asked)[:, None]
    passed = scored.confidence.astype(np.float64) >= thresholds[:, None]
    passed[-1] = True
    reach = ~passed[:k].any(axis=0)
    # paid by all who reach this exit, unless nobody is asked; so far by those who leave at it
    head = 0.0 if scored.heads is None else price * scored.heads[k]
    later = k + 1 + passed[k + 1 :, reach].argmax(axis=0)
    gain = worth[k, reach] - worth[later, np.flatnonzero(reach)] + head
    confidence = scored.confidence[k, reach].astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    descending, total = confidence[order], np.cumsum(gain[order])
    # a cut may only fall between two different confidences
    cuts = np.flatnonzero(descending[:-1] > descending[1:])
    cuts = np.append(cuts, len(total) - 1)
    if len(total) == 0 or total[cuts].max() <= head * len(total):
        return NEVER
    return _cut_after(descending, int(cuts[total[cuts].argmax()]) + 1)


def baseline_curve(scored: Scored) -> list[Tradeoff]:
    """The MSDNet procedure at its 40 ratios, from most images early to most late."""
    return [apply_thresholds(scored, msdnet_thresholds(scored, ratio)) for ratio in RATIOS]


def each_exit(scored: Scored) -> list[Tradeoff]:
    """Every image at one exit, for each exit in turn."""
    exits = len(scored.flops)
    alone = [np.where(np.arange(exits) >= k, 0.0, NEVER) for k in range(exits)]
    return [apply_thresholds(scored, thresholds) for thresholds in alone]


def candidates(scored: Scored) -> list[Tradeoff]:
    """Operating points to choose from: the baseline's, each improved at several prices, the ends.

    The baseline's points are among them, so what is chosen is never worse on these images.
    """
    starts = [msdnet_thresholds(scored, ratio) for ratio in np.geomspace(0.05, 5.0, 3)]
    improved = [
        apply_thresholds(scored, improve_thresholds(scored, start, price))
        for start in starts
        for price in np.geomspace(0.002, 1.0, 24)
    ]
    return [*baseline_curve(scored), *improved, *each_exit(scored)]


def pareto(tradeoffs: Iterable[Tradeoff]) -> list[Tradeoff]:
    """Those that no other beats in both flops and accuracy, in order of mean flops."""
    front: list[Tradeoff] = []
    for tradeoff in sorted(tradeoffs, key=lambda o: (o.mean_flops, -o.accuracy)):
        if not front or tradeoff.accuracy > front[-1].accuracy:
            front.append(tradeoff)
    return front


def best_within(tradeoffs: Sequence[Tradeoff], flops: float) -> Tradeoff:
    """The most accurate at no more than `flops`; the cheapest of all where there is none."""
    affordable = [o for o in tradeoffs if o.mean_flops <= flops]
    if not affordable:
        return min(tradeoffs, key=lambda o: o.mean_flops)
    return max(affordable, key=lambda o: (o.accuracy, -o.mean_flops))
