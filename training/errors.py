"""Errors that a user of training or the exporter can mend, in one tree.

TrainingError
├── RecipeError       an option has no such value
├── DataError         the images cannot be used as they are
├── DivergedError     the loss is no number any more
└── CheckpointError   a file is not a checkpoint of ours, or not for this run
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ValidationError


class TrainingError(ValueError):
    """Base of the tree; its text says what is wrong and what to do."""


class RecipeError(TrainingError):
    """An option has no such value."""

    @classmethod
    def of_field(
        cls, error: ValidationError, what: str, name: str, record: type[BaseModel]
    ) -> Self:
        """What pydantic found wrong first in the options of `what`, of which `name` was chosen."""
        first = error.errors(include_url=False)[0]
        where = ".".join([what, *map(str, first["loc"])])
        known = ", ".join(record.model_fields) or "none"
        return cls(f"{where}: {first['msg']} (fields of {name}: {known})")


class DataError(TrainingError):
    """The images cannot be used as they are."""


class DivergedError(TrainingError):
    """The loss is no number any more; the last checkpoint is as good as it was."""


class CheckpointError(TrainingError):
    """A file is not a checkpoint of ours, is damaged, or does not belong to this run."""
