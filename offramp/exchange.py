"""The exchange that both clients have in common, as steps without any input or output.

A flow is a generator of steps. A step is a request, to which the flow is given the response, or a
number of seconds to sleep. `advance` runs a flow to its next step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any, Generic, TypeVar

import httpx
import numpy as np
from PIL import Image

from offramp.answers import Answer, Model, answer_from, model_from
from offramp.bundle.manifest import ImageInput
from offramp.errors import OfframpError, TransportError
from offramp.inputs.images import ImageSource, Pixels, file_of, pixels_from, png_of, shrunk
from serving.errors import InvalidRequestError, PoolFullError, ServingError

PIXELS = "application/vnd.offramp.uint8"
FILE = "application/octet-stream"
IMAGES_A_CALL = 16  # as the server's default
BYTES_A_CALL = 8 << 20  # half of the server's default; larger images are sent alone
MAX_BYTES = 1 << 30  # of an image file
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
NUMBERED = re.compile(r"^image (\d+): ")

T = TypeVar("T")
Step = httpx.Request | float
Flow = Generator[Step, httpx.Response | None, T]
Sent = bytes | Pixels


@dataclass(frozen=True, slots=True)
class Query:
    """The arguments of a call, as for `Client.classify`."""

    budget: str | None
    min_confidence: float | None
    deadline_ms: float | None
    top_k: int
    explain: bool
    reject: bool = False
    promise: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """The query parameters of `POST /classify`."""
        given = {
            "budget": self.budget,
            "min_confidence": self.min_confidence,
            "deadline_ms": self.deadline_ms,
            "top_k": self.top_k,
            "promise": self.promise,
        }
        parameters = {name: str(value) for name, value in given.items() if value is not None}
        flags = {"explain": self.explain, "reject": self.reject}
        return parameters | {name: "true" for name, value in flags.items() if value}


@dataclass(frozen=True, slots=True)
class Retries:
    """Retries of requests that a busy server refuses (429, 503).

    Attributes:
        count: Retries of one request at most.
        max_seconds: Longest time to sleep before a retry. A `Retry-After` above it is an error.
    """

    count: int
    max_seconds: float

    def seconds(self, attempt: int, response: httpx.Response) -> float | None:
        """Return the seconds to sleep after an attempt, from 0. `None`: no retry."""
        if response.status_code not in BUSY or attempt >= self.count:
            return None
        seconds = _retry_after(response) or min(0.1 * 2**attempt, self.max_seconds)
        return seconds if seconds <= self.max_seconds else None


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The result of a flow that has ended."""

    result: T


def advance(flow: Flow[T], response: httpx.Response | None) -> Step | Done[T]:
    """Run a flow to its next step.

    Args:
        flow: The flow.
        response: The response to its last step. `None` after a sleep, and to start it.
    """
    try:
        return flow.send(response)
    except StopIteration as end:
        return Done(end.value)


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
            full = len(call) == IMAGES_A_CALL or sum(map(_size, [*call, sent])) > BYTES_A_CALL
            if call and full:
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
        self._known = _parsed(response, model_from)
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
        response = yield from self._exchange(
            before, "POST", "classify", params=query.parameters, **_body(images)
        )
        return _parsed(response, lambda body: [answer_from(each) for each in body["answers"]])

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


def error_of(response: httpx.Response, before: int | None = None) -> OfframpError:
    """Build the error that a response reports as a problem (RFC 9457).

    Args:
        response: A response without success.
        before: Images in the calls before this one. They are added to an image's number in the
            text. `None` removes the number.
    """
    try:
        body = response.json()
        kind, detail = body["type"].rpartition("/")[2], str(body["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return _unexpected(response)
    text = NUMBERED.sub(lambda found: _number(int(found[1]), before), detail, count=1)
    if kind == PoolFullError.type:
        return PoolFullError(text, int(_retry_after(response)) or 1)
    other = InvalidRequestError if response.is_client_error else ServingError
    return _error_classes().get(kind, other)(text)


def _number(number: int, before: int | None) -> str:
    return "" if before is None else f"image {number + before}: "


@cache
def _error_classes() -> dict[str, type[ServingError]]:
    """Return the class of each problem type."""
    classes, found = [ServingError], dict[str, type[ServingError]]()
    while classes:
        kind = classes.pop()
        found.setdefault(kind.type, kind)
        classes += kind.__subclasses__()
    return found


def _parsed(response: httpx.Response, read: Callable[[Any], T]) -> T:
    try:
        return read(response.json())
    except (ValueError, KeyError, TypeError) as error:
        raise _unexpected(response) from error


def _unexpected(response: httpx.Response) -> TransportError:
    return TransportError(
        f"{response.url.copy_with(query=None)} answered {response.status_code} "
        f"{response.reason_phrase}, not as an Offramp server does; check the URL"
    )


def _size(sent: Sent) -> int:
    return sent.nbytes if isinstance(sent, np.ndarray) else len(sent)


def _body(images: list[Sent]) -> dict[str, Any]:
    """Return the body as options of `httpx.Client.build_request`."""
    if all(isinstance(each, np.ndarray) for each in images):
        content = b"".join(np.ascontiguousarray(each).tobytes() for each in images)
        return {"content": content, "headers": {"Content-Type": PIXELS}}
    files = [each if isinstance(each, bytes) else png_of(each) for each in images]
    if len(files) == 1:
        return {"content": files[0], "headers": {"Content-Type": FILE}}
    return {"files": [("images", (str(i), file, FILE)) for i, file in enumerate(files, 1)]}
