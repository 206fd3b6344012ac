"""Decode image files to the tensor that stage 1 takes, within bounds of memory and time.

Format, size and cost of every file are read from its header, and checked before any pixel is
decoded. Plain JPEGs are decoded by `jpeg`, all other files by Pillow, to the same pixels. Of an
animation the first frame is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from offramp.bundle.manifest import ImageInput
from offramp.images.decode import decode_essence
from offramp.images.errors import ImageFileError
from serving.errors import DecodersFullError, InvalidRequestError
from serving.images.costly_wait import FEW_WORK, Rest
from serving.images.jpeg import Plain, decode_plain, read_plain
from serving.images.plan import (
    LEAST_BYTES,
    MEMORY_PER_BYTE,
    PER_BYTE,
    Plan,
    check_call,
    plan,
    served_error,
    small_headers,
)
from serving.images.threads import DecodeThreads, Job

# Work that can be queued for each thread: about four seconds. A call alone is always taken.
MAX_QUEUED_WORK = 8 * PER_BYTE * LEAST_BYTES
CHEAP_WORK = 1 << 20  # of a call that is always taken: about 30 ms


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
    if (pixels := _decoded_plain(planned, target)) is not None:
        return pixels
    try:
        return decode_essence(planned.header, planned.header.essence(planned.file), target)
    except ImageFileError as error:
        raise served_error(error) from error


def _decoded_plain(planned: Plan, target: ImageInput) -> NDArray[np.uint8] | None:
    """Decode a plain JPEG. `None` for another image, or a damaged one."""
    if planned.header.format != "JPEG" or (plain := read_plain(planned.file)) is None:
        return None
    return decode_plain(planned.file, plain, target)
