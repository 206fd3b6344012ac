"""Errors of a bundle.

OfframpError
├── BundleError     missing, damaged, or of an unknown format
└── CutError        a graph cannot be joined or cut
"""

from __future__ import annotations

from offramp.errors import OfframpError


class BundleError(OfframpError):
    """A bundle is missing, damaged, or of a format that this version does not read."""

    def __init__(self, file: object, problem: str) -> None:
        super().__init__(f"{file}: {problem}")


class CutError(OfframpError, ValueError):
    """A graph cannot be joined or cut. The message gives the reason."""
