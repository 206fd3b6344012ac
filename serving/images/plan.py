"""Check images by their headers, before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import side_wanted
from offramp.images.errors import (
    CostlyFileError,
    DamagedFileError,
    ImageFileError,
    UnknownFormatError,
    UnsupportedPixelsError,
)
from offramp.images.header import Header, read_header
from serving.errors import (
    DamagedImageError,
    EmptyBodyError,
    ImageTooLargeError,
    InvalidRequestError,
    NotAnImageError,
    UnsupportedImageError,
)
from serving.images.jpeg import Plain, read_plain

# Pixels of all JPEGs of a call. To decode so many takes as long as to hand them to a thread.
SMALL = 1 << 14
# Bounds of a call, for each byte of its images: pixels of a PNG that take as long, and bytes of
# memory. A body below a megabyte counts as one. A pixel takes up to 30 ns, so a megabyte takes at
# most half a second of one core and 64 MB.
PER_BYTE = 16
MEMORY_PER_BYTE = 64
LEAST_BYTES = 1 << 20
# JPEG 2000 is decoded while the interpreter is locked, so it delays all other requests.
MAX_JPEG2000_PIXELS = 1 << 20
_SERVING_ERRORS: dict[type[ImageFileError], type[InvalidRequestError]] = {
    UnknownFormatError: NotAnImageError,
    DamagedFileError: DamagedImageError,
    UnsupportedPixelsError: UnsupportedImageError,
    CostlyFileError: ImageTooLargeError,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """An image that was checked and can be decoded.

    Attributes:
        file: Bytes of the image file.
        header: Its header.
    """

    file: bytes
    header: Header


def small_headers(max_pixels: int, files: Sequence[bytes]) -> list[Plain] | None:
    """Return the headers of images that are decoded as fast as a thread could take them.

    `None` if they are too large, or if one of them is not a plain JPEG.
    """
    if sum(map(len, files)) > SMALL:
        return None
    found, pixels = [], 0
    for header in map(read_plain, files):
        if header is None or (area := header.width * header.height) > max_pixels:
            return None
        found.append(header)
        pixels += area
    return found if pixels <= SMALL else None


def plan(file: bytes, target: ImageInput, max_pixels: int) -> Plan:
    """Check the header of an image file.

    Raises:
        EmptyBodyError: The file has no bytes.
        NotAnImageError: The file is of no format that is read.
        UnsupportedImageError: Its kind of pixels or compression is not read.
        ImageTooLargeError: More than `max_pixels` pixels would be decoded, or its parts need more
            time than images of its size do.
        DamagedImageError: The header is truncated or damaged.
    """
    if not file:
        raise EmptyBodyError("there are no bytes; send an image file (curl: --data-binary @FILE)")
    try:
        header = read_header(file, side_wanted(target))
    except ImageFileError as error:
        raise served_error(error) from error
    most = min(max_pixels, MAX_JPEG2000_PIXELS) if header.format == "JPEG2000" else max_pixels
    if header.decoded > most:
        raise ImageTooLargeError(
            f"{header.width} x {header.height} = {header.width * header.height} pixels, at most "
            f"{most} are decoded; send it smaller"
        )
    return Plan(file, header)


def check_call(headers: Sequence[Header], size: int) -> float:
    """Return the work to decode the images of a call.

    Args:
        headers: Headers of the images.
        size: Bytes of all images.

    Raises:
        ImageTooLargeError: They need far more memory or time than their bytes explain.
    """
    size_counted = max(size, LEAST_BYTES)
    work = sum(header.work for header in headers)
    memory = sum(header.memory for header in headers)
    if memory > (most := MEMORY_PER_BYTE * size_counted):
        megabytes = f"{memory / 1e6:.0f} MB to decode, at most {most / 1e6:.0f} MB"
        raise _too_large(headers, size, f"need {megabytes}")
    if work > (most := PER_BYTE * size_counted):
        raise _too_large(
            headers, size, f"take {work / most:.2g} times as long to decode as allowed"
        )
    return work


def _too_large(headers: Sequence[Header], size: int, what: str) -> ImageTooLargeError:
    pixels = sum(header.width * header.height for header in headers)
    return ImageTooLargeError(
        f"{size} bytes with {pixels} pixels {what}; send fewer images, smaller ones, or baseline "
        "JPEGs"
    )


def served_error(error: ImageFileError) -> InvalidRequestError:
    """Return the error of the server for an error of an image file."""
    text = str(error)
    if isinstance(error, DamagedFileError):
        text = f"cannot be decoded ({text}); send it whole"
    return _SERVING_ERRORS[type(error)](text)
