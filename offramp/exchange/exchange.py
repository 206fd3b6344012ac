"""The exchange that both clients have in common, as flows without any input or output."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import httpx
import numpy as np
from PIL import Image

from offramp.answers import Answer, Model, answer_from, model_from
from offramp.bundle.manifest import ImageInput
from offramp.errors import OfframpError, TransportError
from offramp.exchange.bodies import Sent, body_of, size_of
from offramp.exchange.flows import Flow
from offramp.exchange.responses import error_of, parsed
from offramp.exchange.retries import Retries
from offramp.exchange.transport import shown
from offramp.inputs.images import ImageSource, file_of, pixels_from, shrunk
from offramp.inputs.query import Query
from serving.errors import BodyTooLargeError, MalformedBodyError

IMAGES_A_CALL = 16  # as the server's default
BYTES_A_CALL = 8 << 20  # half of the server's default; larger images are sent alone
MAX_BYTES = 1 << 30  # of an image file


class Exchange:
    """Builds the requests of a client and reads the responses.

    Args:
        build: Builds a request, as `httpx.Client.build_request` does.
        retries: Retries of each request.
        shrink: Bring large image files to the input of the model before they are sent.
    """

    def __init__(
        self, build: Callable[..., httpx.Request], retries: Retries, *, shrink: bool
    ) -> None:
        self._build = build
        self._retries = retries
        self._shrink = shrink
        self._known: Model | None = None

    def classify(self, images: Iterable[ImageSource], query: Query) -> Flow[list[Answer]]:
        """Classify images in calls of several. Errors name the image by its number, from 1."""
        answers: list[Answer] = []
        call: list[Sent] = []
        for number, image in enumerate(images, 1):
            try:
                sent = yield from self._prepared(image)
            except OfframpError as error:
                raise type(error)(f"image {number}: {error}") from error
            if call and _is_full([*call, sent]):
                answers += yield from self._call(call, query, len(answers))
                call = []
            call.append(sent)
        if call:
            answers += yield from self._call(call, query, len(answers))
        return answers

    def classify_one(self, image: ImageSource, query: Query) -> Flow[Answer]:
        """Classify one image. Errors do not name it."""
        sent = yield from self._prepared(image)
        (answer,) = yield from self._call([sent], query, None)
        return answer

    def model(self) -> Flow[Model]:
        """Read the description of the model, and remember it."""
        response = yield from self._exchange(None, "GET", "model")
        self._known = parsed(response, model_from)
        return self._known

    def _prepared(self, image: ImageSource) -> Flow[Sent]:
        if isinstance(image, Image.Image | np.ndarray):
            return pixels_from(image, (yield from self._input()))
        file = file_of(image, MAX_BYTES)
        if not self._shrink:
            return file
        small = shrunk(file, (yield from self._input()))
        return file if small is None else small

    def _input(self) -> Flow[ImageInput]:
        known = self._known or (yield from self.model())
        return known.input

    def _call(self, images: list[Sent], query: Query, before: int | None) -> Flow[list[Answer]]:
        options = {"params": query.parameters, **body_of(images)}
        try:
            response = yield from self._exchange(before, "POST", "classify", **options)
        except MalformedBodyError:
            self._known = None  # of pixels: the model has another input than that known
            raise
        except BodyTooLargeError as error:
            if before is None or len(images) > 1:
                raise
            raise BodyTooLargeError(f"image {before + 1}: {error}") from error
        answers = parsed(response, lambda body: [answer_from(each) for each in body["answers"]])
        if len(answers) != len(images):
            self._known = None
            raise TransportError(
                f"{shown(response.url)} answered {len(answers)} images, and "
                f"{len(images)} were sent; its model may have changed meanwhile, so try again"
            )
        return answers

    def _exchange(self, before: int | None, *request: str, **options: Any) -> Flow[httpx.Response]:  # noqa: ANN401
        attempt = 0
        while True:
            response = yield self._build(*request, **options)
            assert response is not None
            if response.is_success:
                return response
            seconds = self._retries.seconds(attempt, response)
            if seconds is None:
                raise error_of(response, before)
            yield seconds
            attempt += 1


def _is_full(images: list[Sent]) -> bool:
    """Return True if these are too many images, or too large ones, for one call."""
    return len(images) > IMAGES_A_CALL or sum(map(size_of, images)) > BYTES_A_CALL
