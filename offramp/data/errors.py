"""The errors of data sets on disk."""

from __future__ import annotations

from offramp.errors import OfframpError


class DatasetError(OfframpError):
    """A data set is missing, is ambiguous, or has images or labels that cannot be used."""
