"""Errors of the exporter, in one tree.

ExportError(TrainingError)
└── VerificationError    a graph does not compute what the network does
"""

from training.errors import TrainingError


class ExportError(TrainingError):
    """A checkpoint cannot be made into a bundle; the text says why."""


class VerificationError(ExportError):
    """A graph that was exported does not compute what the network does."""
