"""Errors of a bundle.

OfframpError
├── BundleError     missing, damaged, or of a format that is not read
└── CutError        a graph cannot be joined or cut
"""

from __future__ import annotations

from offramp.errors import OfframpError


class BundleError(OfframpError):
    """A bundle is missing, damaged, or of a format that is not read."""

    def __init__(self, file: object, problem: str) -> None:
        super().__init__(f"{file}: {problem}")


class CutError(OfframpError, ValueError):
    """A graph cannot be joined or cut; the text says why."""
