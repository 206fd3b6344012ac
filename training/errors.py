"""Errors that a user of training or the exporter can fix, in one tree.

TrainingError
├── RecipeError       an option has an invalid value
├── DataError         the images cannot be used
├── DivergedError     the loss, a gradient or the network's output is not finite
└── CheckpointError   a file is not a valid checkpoint, or belongs to another run
"""

from __future__ import annotations

from pathlib import Path

from offramp.errors import OfframpError


class TrainingError(OfframpError, ValueError):
    """Base of the tree. The text says what is wrong and what to do."""


class RecipeError(TrainingError):
    """An option has an invalid value."""


class DataError(TrainingError):
    """The images cannot be used."""


class DivergedError(TrainingError):
    """The loss, a gradient or the output of the trained network is not finite."""


class CheckpointError(TrainingError):
    """A file is not a checkpoint, is damaged, or belongs to another run."""


def unreadable_size(size: int, first_size: int | None = None) -> RecipeError:
    """Return the error that a network cannot read images of that size, in pixels.

    Args:
        size: Height and width of the images.
        first_size: Those of the smaller image first. `None`: there is only one size.
    """
    if first_size is None:
        return RecipeError(
            f"size: this network cannot read {size} x {size} pixels; give a larger --size or "
            "--small-size"
        )
    return RecipeError(
        f"size: this network cannot read {size} x {size} pixels, or {first_size} x {first_size} "
        "first; give a larger --size, --first-size or --small-size, and --shape.image_size to a "
        "network for one size"
    )


def cache_in_use(path: Path) -> DataError:
    """Return the error of a file in `--cache` that another run writes."""
    return DataError(f"--cache: another run writes {path}; wait for it, or give another folder")
