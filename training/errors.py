"""Errors that a user of training or the exporter can mend, in one tree.

TrainingError
├── RecipeError       an option has no such value
├── DataError         the images cannot be used as they are
├── DivergedError     the loss is no number any more
└── CheckpointError   a file is not a checkpoint of ours, or not for this run
"""

from __future__ import annotations

from offramp.errors import OfframpError


class TrainingError(OfframpError, ValueError):
    """Base of the tree; its text says what is wrong and what to do."""


class RecipeError(TrainingError):
    """An option has no such value."""


class DataError(TrainingError):
    """The images cannot be used as they are."""


class DivergedError(TrainingError):
    """The loss is no number any more; the last checkpoint is as good as it was."""


class CheckpointError(TrainingError):
    """A file is not a checkpoint of ours, is damaged, or does not belong to this run."""
