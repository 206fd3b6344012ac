"""Data sets without their damaged images, and the data set of a run opened again."""

from __future__ import annotations

from dataclasses import replace

from offramp.data.records import printable
from training.data.datasets import Dataset, open_dataset
from training.data.images import ImageFiles
from training.data.unlabelled import open_unlabelled
from training.errors import DataError
from training.recipes import Recipe


def without_damaged(
    dataset: Dataset[ImageFiles],
) -> tuple[Dataset[ImageFiles], list[DataError]]:
    """Decode all images, and return the data set without the damaged ones, and their errors.

    Raises:
        DataError: A class has no training image left, or no held-out image is left.
    """
    train, errors = dataset.train.whole()
    held_out, others = dataset.held_out.whole()
    test, tested = dataset.test.whole() if dataset.test else (None, [])
    whole = replace(dataset, train=train, held_out=held_out, test=test)
    if missing := _missing(whole):
        raise DataError(f"data: all are damaged, so no {missing} is left: {[*errors, *others][0]}")
    return whole, [*errors, *others, *tested]


def _missing(dataset: Dataset[ImageFiles]) -> str | None:
    """Describe an image that the data set needs and has not, if any."""
    kept = set(dataset.train.targets.tolist())
    lacking = [label for k, label in enumerate(dataset.labels) if k not in kept]
    if not dataset.labelled:
        lacking = [] if len(dataset.train) else ["any class"]
    if lacking:
        return f"training image of {printable(lacking[0])}"
    return None if len(dataset.held_out) else "held-out image"


def reopen_dataset(
    source: str,
    recipe: Recipe,
    images: tuple[int, int | None],
    *,
    labels: tuple[str, ...] = (),
    strict: bool = False,
) -> Dataset[ImageFiles]:
    """Open the data set of a run again, split as in the run.

    Args:
        source: See `open_dataset`.
        recipe: Recipe of the run.
        images: Number of training images of the run, and of held-out images if known. If there are
            more now, damaged images are left out, as `--skip-damaged` does.
        labels: Classes of the run, for images without labels.
        strict: Refuse a data set with files that are left out.

    Raises:
        DataError: The images cannot be loaded.
    """
    opened = open_for(recipe, source, labels, strict=strict)
    train, held_out = images
    more = len(opened.train) > train or (held_out is not None and len(opened.held_out) > held_out)
    return without_damaged(opened)[0] if more else opened


def open_for(
    recipe: Recipe, source: str, labels: tuple[str, ...], *, strict: bool = False
) -> Dataset[ImageFiles]:
    """Open the data set of a recipe at `source`, with its labels or without.

    Args:
        recipe: Recipe of the run.
        source: Place of the images.
        labels: Classes of the network, for images without labels.
        strict: Refuse a data set with files that are left out.

    Raises:
        DataError: The images cannot be loaded.
    """
    if recipe.pseudo_labels:
        return open_unlabelled(source, recipe, labels, strict=strict)
    return open_dataset(
        source,
        recipe.size,
        recipe.held_out,
        recipe.seed,
        recipe.held_out_split,
        strict=strict,
        resizing=recipe.resizing,
    )
