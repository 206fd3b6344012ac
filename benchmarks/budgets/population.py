"""The images that thresholds are solved and measured on, and scorers that read their outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporter.budgets.logistic import fit_logistic, logistic, logit
from exporter.bundle import read_bundle
from exporter.recalibrate import own_files
from exporter.stages.runner import Chain
from offramp.bundle.manifest import Manifest
from training.data.splits import load_split
from training.evaluation.evaluate import Floats, Scored

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Images with right answers, and those that agree with full depth, bool [exits, N]."""

    scored: Scored
    agrees: NDArray[np.bool_]

    @property
    def agreeing(self) -> Scored:
        """Return the images with answers that are right if full depth agrees."""
        return replace(self.scored, right=self.agrees)

    def rows(self, which: Rows) -> Answers:
        """Return some of the images."""
        mask = np.zeros(self.scored.images, dtype=bool)
        mask[which] = True
        return Answers(self.scored.select(mask), self.agrees[:, mask])


@dataclass(frozen=True, slots=True)
class Population:
    """Images with the outputs of all exits.

    Attributes:
        probabilities: Calibrated probabilities, float32 [exits, N, classes].
        targets: Labels, int64 [N].
        flops: Multiply-adds up to each exit, [exits].
        heads: Multiply-adds of each head, [exits].
    """

    probabilities: NDArray[np.float32]
    targets: NDArray[np.int64]
    flops: Floats
    heads: Floats

    @property
    def images(self) -> int:
        """Return the number of images."""
        return len(self.targets)

    def answers(self, probabilities: Floats, confidence: Floats) -> Answers:
        """Return the answers of these probabilities, with these confidences [exits, N]."""
        classes = probabilities.argmax(axis=2)
        right = classes == self.targets
        scored = Scored(confidence.astype(np.float32), right, self.flops, self.heads)
        return Answers(scored, classes == classes[-1])


def population_of(bundle: Path, data: str) -> tuple[Manifest, Population]:
    """Run a bundle on its held-out images and on the test images."""
    manifest, graphs = read_bundle(bundle)
    size = manifest.input.height
    files = [own_files(manifest, data).held_out, load_split(data, "test", size, manifest.labels)]
    sets = [each.decoded() for each in files]
    chain = Chain(graphs)
    found = [chain.run(images.pixels).probabilities for images in sets]
    return manifest, Population(
        np.concatenate(found, axis=1),
        np.concatenate([images.targets.numpy() for images in sets]),
        np.array([stage.flops_to_exit for stage in manifest.stages], dtype=np.float64),
        np.array([stage.head_flops for stage in manifest.stages], dtype=np.float64),
    )


def maximum(images: Population, _: Rows) -> Answers:
    """Take the calibrated maximum as the confidence."""
    probabilities = images.probabilities.astype(np.float64)
    return images.answers(probabilities, probabilities.max(axis=2))


def learned(images: Population, rows: Rows, *, former: int | None = None) -> Answers:
    """Learn agreement with full depth from the probabilities of each exit, on these rows.

    Args:
        images: The images.
        rows: Images to learn on.
        former: Number of exits before an exit that its scorer reads. `None`: all.
    """
    return _learned(images, images.probabilities.astype(np.float64), rows, former)


def ensemble(images: Population, rows: Rows) -> Answers:
    """Average the probabilities of the exits reached, and learn agreement with full depth."""
    probabilities = images.probabilities.astype(np.float64)
    count = np.arange(1, len(probabilities))[:, None, None]
    averaged = np.concatenate([probabilities.cumsum(axis=0)[:-1] / count, probabilities[-1:]])
    return _learned(images, averaged, rows)


def _learned(
    images: Population, probabilities: Floats, rows: Rows, former: int | None = None
) -> Answers:
    confidence = probabilities.max(axis=2)
    agrees = images.answers(probabilities, confidence).agrees
    for k in range(len(probabilities) - 1):
        first = 0 if former is None else max(0, k - former)
        columns = _columns(images.probabilities[first : k + 1], probabilities[k])
        weights = fit_logistic(columns[:, rows], agrees[k, rows])
        confidence[k] = logistic(weights[0] + weights[1:] @ columns)
    return images.answers(probabilities, confidence)


def _columns(outputs: NDArray[np.float32], own: Floats) -> Floats:
    """Return what a scorer reads, float64 [columns, N].

    That is the logit of the maximum and its square, the margin, the entropy, and what each of
    these exits gives to the likeliest class.
    """
    ordered = np.sort(own, axis=1)[:, ::-1]
    logs = np.log(np.maximum(ordered, 1e-9))
    first = logit(ordered[:, 0])
    likeliest = own.argmax(axis=1)
    given = [logit(each[np.arange(len(own)), likeliest]) for each in outputs]
    entropy = -(ordered * logs).sum(axis=1)
    return np.stack([first, first * first, logs[:, 0] - logs[:, 1], entropy, *given])


SCORERS: Mapping[str, Callable[[Population, Rows], Answers]] = {
    "maximum": maximum,
    "own exit": partial(learned, former=0),
    "former exit": partial(learned, former=1),
    "learned": learned,
    "ensemble": ensemble,
}
