"""The base class of Offramp's errors."""

from __future__ import annotations


class OfframpError(Exception):
    """Base class of the errors of all packages. The message names the remedy."""


class UsageError(OfframpError):
    """A command line has an unknown option, or a value that is not allowed. Exit code 2."""


class TransportError(OfframpError):
    """No answer came: the connection failed or timed out, or the server is not Offramp's."""


class UnreadableFileError(OfframpError):
    """An image file cannot be opened or read."""


class UnwritableFileError(OfframpError):
    """A file or folder cannot be written: no space, no permission, or no such folder."""
