"""Certify the promises of a bundle on images, which need no labels.

The images are divided at random into two parts. The path of operating points is chosen on one and
certified on the other. Images that are drawn at random stay independent, so that their losses have
the binomial distribution. (A draw by class would make the losses vary less, and the test only
approximate.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from exporter.budgets import estimate_mean, estimate_share
from exporter.budgets.path import RISKS, solve_path
from exporter.promises import check_without_labels
from exporter.promises.points import Points, least_at_an_exit, with_many_at_each_exit
from exporter.promises.wanted import Parts, Wanted, divide, images_wanted
from exporter.stages.times import prices
from offramp.bundle.manifest import Manifest
from offramp.bundle.promises import SAFE, Kind, Level, Promise, Promises
from training.evaluation.evaluate import Scored, apply_thresholds

SAFE_LEVEL = Level("agreement", 0.01)


@dataclass(frozen=True, slots=True)
class Outputs:
    """The answers of every exit to some images.

    Attributes:
        confidence: Confidence of each exit, float32 [exits, N].
        classes: Likeliest class of each exit, int64 [exits, N].
        targets: Labels from 0, int64 [N]. `None`: the images have no labels.
    """

    confidence: NDArray[np.float32]
    classes: NDArray[np.int64]
    targets: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class Certified:
    """The promises that were certified, if any, and lines of text about all of them."""

    promises: Promises | None
    lines: tuple[str, ...]


def certify(manifest: Manifest, outputs: Outputs, wanted: Wanted, source: str) -> Certified:
    """Choose a path on one part of the images, and certify promises along it on the other.

    Args:
        manifest: Manifest of the graphs that gave the outputs.
        outputs: Outputs for images that the network was not trained on.
        wanted: Promises to make.
        source: Name of the images in the manifest.

    Raises:
        ExportError: Harm or accuracy is to be certified on images without labels.
    """
    if outputs.targets is None:
        check_without_labels(wanted.levels)
    else:
        assert (outputs.targets >= 0).all()
    parts = divide(outputs.confidence.shape[1], wanted.seed)
    if not len(parts.tuned):
        return Certified(None, tuple(_absent(wanted, each, parts) for each in wanted.levels))
    certifier = _Certifier(manifest, outputs, parts)
    found = {level: certifier.promise(level, wanted.level) for level in wanted.levels}
    offered = tuple(promise for promise in found.values() if promise is not None)
    lines = tuple(_lines(manifest, found, wanted, parts))
    if not offered:
        return Certified(None, lines)
    promises = Promises(
        delta=wanted.delta,
        at_once=len(wanted.levels),
        tuned=len(parts.tuned),
        certified=len(parts.certified),
        source=source,
        graphs=tuple(stage.sha256 for stage in manifest.stages),
        offered=offered,
    )
    return Certified(promises, lines)


def agreeing(manifest: Manifest, outputs: Outputs, images: NDArray[np.int64]) -> Scored:
    """Return scores of some images in which an answer is right if full depth agrees with it."""
    classes = outputs.classes[:, images]
    flops = np.array([stage.flops_to_exit for stage in manifest.stages], dtype=np.float64)
    heads = np.array([stage.head_flops for stage in manifest.stages], dtype=np.float64)
    right = classes == classes[-1]
    priced = prices(manifest.times) if manifest.priced_in == "ms" and manifest.times else None
    return Scored(outputs.confidence[:, images], right, flops, heads, manifest.firsts, priced)


class _Certifier:
    """Tests the points of a path on images that it was not chosen on."""

    def __init__(self, manifest: Manifest, outputs: Outputs, parts: Parts) -> None:
        self._scored = agreeing(manifest, outputs, parts.certified)
        self._tuned = agreeing(manifest, outputs, parts.tuned)
        self._path = solve_path(self._tuned).thresholds()
        self._lost = _losses(outputs, parts.certified)
        self._gained = _gains(outputs, parts.certified)

    def promise(self, level: Level, largest: float) -> Promise | None:
        """Return the promise of the cheapest point that is certified, or `None`."""
        thresholds = self._path
        images = self._scored.images
        if level.kind == "exit":
            thresholds = with_many_at_each_exit(
                self._tuned, thresholds, least_at_an_exit(level, largest, images)
            )
        gained = self._gained if level.kind == "accuracy" else None
        points = Points(self._scored, self._lost[level.kind], thresholds, gained)
        best = points.cheapest(level, largest)
        if best is None or (level.kind == "exit" and best == 0):  # full depth has no early exit
            return None
        tradeoff = apply_thresholds(self._scored, thresholds[best])
        return Promise(
            name=SAFE if level == SAFE_LEVEL else None,
            kind=level.kind,
            epsilon=level.epsilon,
            losses=int(points.losses[best].sum()),
            risk=float(RISKS[best]),
            thresholds=tradeoff.thresholds,
            mean_flops=estimate_mean(tradeoff.mean_flops, tradeoff.std_flops, images),
            exit_shares=tuple(estimate_share(share, images) for share in tradeoff.shares),
            by_exit=points.by_exit(best) if level.kind == "exit" else None,
            gains=int(points.gains[best]) if level.kind == "accuracy" else None,
        )


def _losses(outputs: Outputs, images: NDArray[np.int64]) -> dict[Kind, NDArray[np.bool_]]:
    """Return whether each exit's answer is a loss, bool [exits, N], by kind of promise."""
    classes = outputs.classes[:, images]
    differs = classes != classes[-1]
    losses: dict[Kind, NDArray[np.bool_]] = {"agreement": differs, "exit": differs}
    if outputs.targets is not None:
        right = classes == outputs.targets[images]
        losses["harm"] = losses["accuracy"] = right[-1] & ~right
    return losses


def _gains(outputs: Outputs, images: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Return whether each exit is right where full depth is wrong, bool [exits, N]."""
    if outputs.targets is None:
        return None
    right = outputs.classes[:, images] == outputs.targets[images]
    gains: NDArray[np.bool_] = right & ~right[-1]
    return gains


def _lines(
    manifest: Manifest, found: dict[Level, Promise | None], wanted: Wanted, parts: Parts
) -> Iterator[str]:
    for level, promise in found.items():
        if promise is None:
            yield _absent(wanted, level, parts)
        else:
            yield promise_line(promise, len(parts.certified), manifest.full_flops)


def promise_line(promise: Promise, images: int, full_flops: float) -> str:
    """Return a line of text on a promise that was certified on so many images."""
    flops = promise.mean_flops.value
    gains = "" if promise.gains is None else f"and {promise.gains:,} gains "
    return (
        f"  promise {promise.level!s:9} {flops / 1e6:6.1f} M flops "
        f"({100 * flops / full_flops:4.1f} % of full depth)   "
        f"{promise.losses:,} losses {gains}in {images:,} images"
    )


def _absent(wanted: Wanted, level: Level, parts: Parts) -> str:
    images, least = len(parts.tuned) + len(parts.certified), images_wanted(wanted, level)
    reason = f"it takes at least {least:,}, of which a part chooses the path"
    if images >= least:
        reason = "early answers differ too often, or too few images leave at each exit"
    return f"  promise {level!s:9} cannot be certified on {images:,} images: {reason}"
