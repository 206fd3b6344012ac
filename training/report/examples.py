"""The held-out images that a report shows: chosen by confidence, a bounded number at each exit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.images import ImageFiles, Images
from training.evaluation.evaluate import Floats, Scored, exits_taken
from training.report.classes import Ints
from training.report.thumbnails import thumbnail

AT_EXIT = 12  # most photos of one kind at an exit
SHOWN = 140  # most photos on a page


@dataclass(frozen=True, slots=True)
class Chosen:
    """Images of one kind at one exit.

    Attributes:
        exit: Number of the exit, from 1.
        total: Number of all images of this kind.
        right: Number of those with a right prediction at this exit.
        images: Indices of the images to show, int64 [shown], in this order.
    """

    exit: int
    total: int
    right: int
    images: Ints


@dataclass(frozen=True, slots=True)
class Photo:
    """An image, its class, and the prediction of one exit with its calibrated confidence."""

    uri: str
    true: str
    predicted: str
    confidence: float


@dataclass(frozen=True, slots=True)
class PhotoGroup:
    """The photos of one kind at one exit, see `Chosen`."""

    exit: int
    total: int
    right: int
    photos: tuple[Photo, ...]


def wrong_predictions(scored: Scored) -> list[Chosen]:
    """Choose images with a wrong prediction at each exit, the most confident first."""
    exits = range(len(scored.flops))
    return [_chosen(scored, k, ~scored.right[k], -scored.confidence[k]) for k in exits]


def leaving_images(scored: Scored, thresholds: Floats) -> list[Chosen]:
    """Choose images that leave at each exit by the thresholds, float64 [exits].

    Easy images are shown at the first exit: those with the highest confidence. Hard images are
    shown at the others: those with the lowest confidence at the exit before.
    """
    taken = exits_taken(scored.confidence, thresholds)
    chosen = []
    for k in range(len(scored.flops)):
        order = scored.confidence[k - 1] if k else -scored.confidence[0]
        chosen.append(_chosen(scored, k, taken == k, order))
    return chosen


def _chosen(scored: Scored, k: int, which: NDArray[np.bool_], order: NDArray[np.float32]) -> Chosen:
    """Choose from the images of the mask [N] those that are first in `order`, float32 [N]."""
    most = min(AT_EXIT, SHOWN // (2 * len(scored.flops)))
    indices = np.flatnonzero(which)
    first = indices[np.argsort(order[indices], kind="stable")[:most]]
    return Chosen(k + 1, len(indices), int(scored.right[k][indices].sum()), first)


def photo_groups(
    chosen: Iterable[Chosen],
    images: Images | ImageFiles,
    labels: tuple[str, ...],
    predicted: Ints,
    scored: Scored,
) -> tuple[PhotoGroup, ...]:
    """Decode the chosen images, and describe them for the page.

    Args:
        chosen: Images at each exit.
        images: All held-out images.
        labels: Names of the classes.
        predicted: Predicted class at each exit, int64 [exits, N].
        scored: Confidence at each exit.

    Raises:
        DataError: An image cannot be read.
    """
    return tuple(
        PhotoGroup(
            each.exit,
            each.total,
            each.right,
            tuple(_photos(each, images, labels, predicted[each.exit - 1], scored)),
        )
        for each in chosen
    )


def _photos(
    chosen: Chosen,
    images: Images | ImageFiles,
    labels: tuple[str, ...],
    predicted: Ints,
    scored: Scored,
) -> Iterator[Photo]:
    if not len(chosen.images):
        return
    some = images.select(torch.from_numpy(chosen.images)).decoded()
    for image, pixels, target in zip(
        chosen.images.tolist(), some.pixels.numpy(), some.targets.tolist(), strict=True
    ):
        yield Photo(
            thumbnail(pixels),
            labels[target],
            labels[int(predicted[image])],
            float(scored.confidence[chosen.exit - 1, image]),
        )
