"""The outcomes of images, in the order of the images, while chunks of them run in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image

from offramp.bundle.manifest import ImageInput
from offramp.errors import OfframpError
from offramp.inputs.images import ImageSource, Pixels, file_of, pixels_from
from serving.engine.request import Answer
from serving.images.decoder import decode
from serving.settings import Settings

CLOSED = "the classifier is closed; open it again"


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the engine.

    Attributes:
        answer: The answer.
        decode: Seconds for decoding the images of its chunk.
    """

    answer: Answer
    decode: float


Outcome = Answered | OfframpError


def stream_chunks(
    images: Iterator[ImageSource],
    size: int,
    most: int,
    submit: Callable[[Sequence[ImageSource]], Future[list[Outcome]]],
) -> Iterator[Outcome]:
    """Submit images in chunks, and yield the outcome of each image in their order.

    Args:
        images: Images. They are read a bounded number ahead.
        size: Number of images of a chunk.
        most: Most chunks that are submitted at the same time.
        submit: Starts a chunk.
    """
    running: deque[Future[list[Outcome]]] = deque()
    try:
        while chunk := list(islice(images, size)):
            running.append(submit(chunk))
            while running and (len(running) >= most or running[0].done()):
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        for future in running:
            future.cancel()


def outcomes_of(
    loaded: Iterable[Pixels | OfframpError],
    answers: Iterable[Answer | OfframpError],
    decode_seconds: float,
) -> list[Outcome]:
    """Return the outcome of each image of a chunk.

    Args:
        loaded: Decoded images, or the errors that prevented it.
        answers: Answers or errors of those that were decoded.
        decode_seconds: Seconds for decoding the chunk.
    """
    later = iter(answers)
    found = [each if isinstance(each, OfframpError) else next(later) for each in loaded]
    return [Answered(each, decode_seconds) if isinstance(each, Answer) else each for each in found]


def load(source: ImageSource, target: ImageInput, settings: Settings) -> Pixels | OfframpError:
    """Read and decode an image as the server does.

    Returns:
        RGB pixels, uint8 [target.height, target.width, 3], or the error that prevents it.
    """
    try:
        if isinstance(source, np.ndarray | Image.Image):
            return pixels_from(source, target, settings.max_pixels)
        file = file_of(source, settings.max_body_bytes)
        return decode(file, target, settings.max_pixels)
    except OfframpError as error:
        return error
