"""Decode image files to the tensor that stage 1 takes, within bounds of memory and time.

Format, size and cost of every file are read from its header, and checked before any pixel is
decoded. Plain JPEGs are decoded by `jpeg`, all other files by Pillow, to the same pixels. Of an
animation the first frame is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import ImageInput
from offramp.bundle.preprocess import side_wanted
from offramp.images.decode import decode_essence
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
    DecodersFullError,
    EmptyBodyError,
    ImageTooLargeError,
    InvalidRequestError,
    NotAnImageError,
    UnsupportedImageError,
)
from serving.images.jpeg import Plain, decode_plain, read_plain
from serving.images.rest import FEW_WORK, Rest
from serving.images.threads import DecodeThreads, Job

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
# Work that can be queued for each thread: about four seconds. A call alone is always taken.
MAX_QUEUED_WORK = 8 * PER_BYTE * LEAST_BYTES
CHEAP_WORK = 1 << 20  # of a call that is always taken: about 30 ms
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


class Decoder:
    """A decoder of small images on the event loop and of all others on threads of its own.

    Args:
        target: Size of the decoded image and the way to reach it.
        max_pixels: Largest number of pixels of an image that is decoded. A JPEG is decoded at a
            reduced size where that is enough.
        threads: Number of images decoded at the same time.
        keep: Counts bytes that a cancelled decoding still holds, and with a negative number those
            that it no longer holds.
        rest: Decides for how long images wait that are dear to decode.
        trim: Gives free memory back to the system.

    Attributes:
        small: The function `small_headers` for `max_pixels`.
    """

    def __init__(
        self,
        target: ImageInput,
        max_pixels: int,
        threads: int,
        keep: Callable[[int], None] = lambda _: None,
        rest: Rest | None = None,
        trim: Callable[[], None] = lambda: None,
    ) -> None:
        self._target = target
        self._max_pixels = max_pixels
        self.small = partial(small_headers, max_pixels)
        max_memory = max(4 * max_pixels, MEMORY_PER_BYTE * LEAST_BYTES)
        self._rest = rest or Rest()
        self._threads = DecodeThreads(threads, max_memory, self._rest.after, trim)
        self._max_queued = threads * MAX_QUEUED_WORK
        self._keep = keep

    def plan(self, files: Sequence[bytes]) -> list[Plan]:
        """Check the headers of the images of a call, which takes no more than milliseconds.

        Raises:
            InvalidRequestError: As the function `plan` raises, with the number of the image.
            DecodersFullError: Too much work is queued for the threads.
        """
        plans = [self._plan_one(number, file) for number, file in enumerate(files, 1)]
        work = check_call([each.header for each in plans], sum(map(len, files)))
        if work <= CHEAP_WORK:
            return plans
        self._rest.arrived()
        queued, most = self._threads.work, FEW_WORK if self._rest.needed else self._max_queued
        if queued and queued + work > most:
            raise DecodersFullError(
                "too many large images are being decoded; try again in a moment"
            )
        return plans

    async def decode(self, plans: Sequence[Plan]) -> list[NDArray[np.uint8]]:
        """Decode images on threads to uint8 [H, W, 3] each. Images that are cheap come first.

        Raises:
            InvalidRequestError: As the function `decode` raises, with the number of the image.
        """
        dear = sum(each.header.work for each in plans) > CHEAP_WORK
        jobs = [self._start(each, dear=dear) for each in plans]
        try:
            return [await self._result(number, job) for number, job in enumerate(jobs, 1)]
        finally:
            for job, each in zip(jobs, plans, strict=True):
                if self._threads.cancel(job):  # it still runs and holds its file
                    self._keep(len(each.file))
                    job.when_ended(partial(self._keep, -len(each.file)))

    def decode_small(
        self, files: Sequence[bytes], headers: Sequence[Plain]
    ) -> list[NDArray[np.uint8]] | None:
        """Decode images with these `small` headers at once. `None` if one of them is damaged."""
        images = []
        for file, header in zip(files, headers, strict=True):
            image = decode_plain(file, header, self._target)
            if image is None:
                return None
            images.append(image)
        return images

    def _plan_one(self, number: int, file: bytes) -> Plan:
        try:
            return plan(file, self._target, self._max_pixels)
        except InvalidRequestError as error:
            raise type(error)(f"image {number}: {error}") from error

    def _start(self, planned: Plan, *, dear: bool) -> Job:
        header = planned.header
        run = partial(decode_planned, planned, self._target)
        return self._threads.start(run, header.work, header.memory, dear=dear)

    @staticmethod
    async def _result(number: int, job: Job) -> NDArray[np.uint8]:
        try:
            return await asyncio.shield(job.future)
        except InvalidRequestError as error:
            raise type(error)(f"image {number}: {error}") from error

    def drain(self) -> None:
        """Let no image wait longer than its decoding needs, because the server stops."""
        self._threads.drain()

    def close(self) -> None:
        """Stop the threads, without waiting for an image that is being decoded."""
        self._threads.close()


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
        raise EmptyBodyError("there are no bytes; send the image as the body (--data-binary @file)")
    try:
        header = read_header(file, side_wanted(target))
    except ImageFileError as error:
        raise _served(error) from error
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
    if work > PER_BYTE * size_counted or memory > MEMORY_PER_BYTE * size_counted:
        pixels = sum(header.width * header.height for header in headers)
        raise ImageTooLargeError(
            f"{size} bytes with {pixels} pixels need more time or memory to decode than is allowed "
            f"({memory / 1e6:.0f} MB, at most {MEMORY_PER_BYTE * size_counted / 1e6:.0f} MB); send "
            "fewer images, smaller ones, or baseline JPEGs"
        )
    return work


def decode(file: bytes, target: ImageInput, max_pixels: int) -> NDArray[np.uint8]:
    """Decode an image file to uint8 [target.height, target.width, 3], RGB.

    Raises:
        InvalidRequestError: As `plan`, `check_call` and `decode_planned` raise.
    """
    small = small_headers(max_pixels, [file])
    if small and (pixels := decode_plain(file, small[0], target)) is not None:
        return pixels
    planned = plan(file, target, max_pixels)
    check_call([planned.header], len(file))
    return decode_planned(planned, target)


def decode_planned(planned: Plan, target: ImageInput) -> NDArray[np.uint8]:
    """Decode a checked image to uint8 [target.height, target.width, 3], RGB.

    Raises:
        DamagedImageError: The file is truncated or cannot be decoded.
        UnsupportedImageError: Its pixels have no stated conversion to 8 bits.
        ImageTooLargeError: It has more parts than are read.
    """
    if planned.header.format == "JPEG" and (plain := read_plain(planned.file)) is not None:
        pixels = decode_plain(planned.file, plain, target)
        if pixels is not None:
            return pixels
    try:
        return decode_essence(planned.header, planned.header.essence(planned.file), target)
    except ImageFileError as error:
        raise _served(error) from error


def _served(error: ImageFileError) -> InvalidRequestError:
    text = (
        f"cannot be decoded ({error}); send it whole"
        if isinstance(error, DamagedFileError)
        else str(error)
    )
    return _SERVING_ERRORS[type(error)](text)
