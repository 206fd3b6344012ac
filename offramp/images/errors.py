"""The errors of an image file.

ImageFileError
├── UnknownFormatError        not an image, or of a format that is not read
├── DamagedFileError          begins as an image and cannot be decoded
├── UnsupportedPixelsError    its pixels have no stated conversion to 8-bit RGB
└── CostlyFileError           needs more memory or time than is allowed
"""

from __future__ import annotations

from offramp.errors import OfframpError


class ImageFileError(OfframpError):
    """Base of the errors of an image file."""


class UnknownFormatError(ImageFileError):
    """The bytes are not an image of a format that is read."""


class DamagedFileError(ImageFileError):
    """The file begins as an image and cannot be decoded."""


class UnsupportedPixelsError(ImageFileError):
    """The file is an image, and its kind of pixels or compression is not read."""


class CostlyFileError(ImageFileError):
    """The file needs more memory or time to decode than is allowed."""
