"""The results of each class: images, accuracy at each exit, and confusion at full depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.evaluation.calibration_error import wilson

Ints = NDArray[np.int64]

HELD_OUT = "held-out"
MATRIX = 100  # most classes in a confusion matrix
NUMBERED = 24  # most classes in a confusion matrix with numbers in its cells
SHADES = 9  # of the cells with images


@dataclass(frozen=True, slots=True)
class ClassRow:
    """A class in a table.

    Attributes:
        label: Name of the class.
        images: Number of images in each set.
        accuracies: Accuracy at each exit on the held-out images. `None`: there are no such images.
        interval: 95 % interval (Wilson) of the accuracy at the last exit.
    """

    label: str
    images: tuple[int, ...]
    accuracies: tuple[float | None, ...]
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Held-out images of one class that full depth predicts as another class.

    `share` is their share of all held-out images of class `true`.
    """

    true: str
    predicted: str
    images: int
    share: float


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """Row of the confusion matrix: a class, and its (images, shade) for each prediction.

    Shade 0 has no images. Shades 1 to 9 are shares of the row in steps of a ninth.
    """

    label: str
    cells: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class ClassResults:
    """The results of all classes on the held-out images.

    Attributes:
        labels: Names of the classes.
        counts: Images of each class by set, int64 [classes]. One set is the held-out images.
        right: Right predictions by exit and class, int64 [exits, classes].
        pairs: Class, predicted class at full depth, and number of images, int64 [pairs, 3]. Each
            pair of classes with images is in one row.
    """

    labels: tuple[str, ...]
    counts: Mapping[str, Ints]
    right: Ints
    pairs: Ints

    def rows(self, most: int | None = None) -> list[ClassRow]:
        """Return the classes in their order.

        If there are more than `most`, return that number of classes with the lowest accuracy at
        full depth, the lowest first. Classes without held-out images come last.
        """
        order = np.arange(len(self.labels))
        if most is not None and len(order) > most:
            images = self.counts[HELD_OUT]
            accuracy = np.where(images > 0, self.right[-1] / np.maximum(images, 1), np.inf)
            order = np.argsort(accuracy, kind="stable")[:most]
        return [self._row(int(k)) for k in order]

    def _row(self, k: int) -> ClassRow:
        images = int(self.counts[HELD_OUT][k])
        accuracies = tuple(float(right) / images if images else None for right in self.right[:, k])
        last = accuracies[-1]
        return ClassRow(
            self.labels[k],
            tuple(int(count[k]) for count in self.counts.values()),
            accuracies,
            None if last is None else wilson(last, images),
        )

    def confusions(self, most: int) -> list[Confusion]:
        """Return the pairs of different classes with the most images, the largest first."""
        wrong = self.pairs[self.pairs[:, 0] != self.pairs[:, 1]]
        largest = wrong[np.argsort(-wrong[:, 2], kind="stable")][:most].tolist()
        images = self.counts[HELD_OUT]
        return [
            Confusion(self.labels[true], self.labels[predicted], count, count / int(images[true]))
            for true, predicted, count in largest
        ]

    def matrix(self) -> list[MatrixRow]:
        """Return the confusion matrix, or no rows if there are more than 100 classes."""
        classes = len(self.labels)
        if classes > MATRIX:
            return []
        dense = np.zeros((classes, classes), dtype=np.int64)
        dense[self.pairs[:, 0], self.pairs[:, 1]] = self.pairs[:, 2]
        shades = -(-SHADES * dense // np.maximum(dense.sum(axis=1, keepdims=True), 1))
        return [
            MatrixRow(label, tuple(zip(row, shade, strict=True)))
            for label, row, shade in zip(self.labels, dense.tolist(), shades.tolist(), strict=True)
        ]


def class_results(
    labels: tuple[str, ...], predicted: Ints, targets: Ints, others: Mapping[str, Ints]
) -> ClassResults:
    """Count the predictions for held-out images by class.

    Args:
        labels: Names of the classes.
        predicted: Predicted class at each exit, int64 [exits, N].
        targets: Class of each held-out image, int64 [N].
        others: Classes of the images of the other sets, by the set's name. Only counted.
    """
    classes = len(labels)
    sets = {name: others[name] for name in ("train",) if name in others}
    sets |= {HELD_OUT: targets} | {name: each for name, each in others.items() if name != "train"}
    pairs, images = np.unique(np.stack([targets, predicted[-1]]), axis=1, return_counts=True)
    return ClassResults(
        labels,
        {name: _by_class(each, classes) for name, each in sets.items()},
        np.stack([_by_class(targets[row == targets], classes) for row in predicted]),
        np.concatenate([pairs, images[None]]).T,
    )


def _by_class(targets: Ints, classes: int) -> Ints:
    return np.bincount(targets, minlength=classes).astype(np.int64)
