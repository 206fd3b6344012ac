"""Errors of the images of a request."""

from __future__ import annotations

from serving.errors.requests import InvalidRequestError


class NotAnImageError(InvalidRequestError):
    """The bytes are not an image in a format that this server reads."""

    status = 415
    type = "not-an-image"


class UnsupportedImageError(InvalidRequestError):
    """The bytes are an image, and its kind of pixels or compression is not read."""

    status = 415
    type = "unsupported-image"


class DamagedImageError(InvalidRequestError):
    """The bytes begin as an image and cannot be decoded."""

    type = "damaged-image"


class ImageTooLargeError(InvalidRequestError):
    """The image needs more memory or time to decode than this server allows."""

    status = 413
    type = "image-too-large"
