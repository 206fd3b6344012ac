"""Errors of the exporter, in one tree.

ExportError(TrainingError)
└── VerificationError    the outputs of a graph differ from the network's
"""

from training.errors import TrainingError


class ExportError(TrainingError):
    """A checkpoint cannot be exported as a bundle. The text gives the reason."""


class VerificationError(ExportError):
    """The outputs of an exported graph differ from the network's."""


def in_short(error: Exception, most: int = 200) -> str:
    """Return the first line of an error of another library, with at most so many characters."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= most else line[: most - 3] + "..."
