"""The base class of Offramp's errors."""

from __future__ import annotations


class OfframpError(Exception):
    """Base class of the errors of all packages. The message says how to correct the error."""
