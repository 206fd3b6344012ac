"""Errors of the exporter, in one tree.

ExportError(TrainingError)
└── VerificationError    the outputs of a graph differ from the network's
"""

from training.errors import TrainingError


class ExportError(TrainingError):
    """A checkpoint cannot be exported as a bundle. The text gives the reason."""


class VerificationError(ExportError):
    """The outputs of an exported graph differ from the network's."""
