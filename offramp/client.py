"""Clients of a server: the answers and the errors of `Classifier`, over HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Self, TypeVar

import httpx

from offramp.answers import Answer, Model
from offramp.errors import OfframpError
from offramp.exchange.exchange import Exchange
from offramp.exchange.flows import Done, Flow, advance
from offramp.exchange.in_order import in_order
from offramp.exchange.retries import Retries
from offramp.exchange.transport import FAILURES, Sending, client_options, environment
from offramp.inputs.images import IMAGE_ERRORS, ImageSource, each_image
from offramp.inputs.query import Query

__all__ = ["AsyncClient", "Client"]
T = TypeVar("T")
Outcome = Answer | OfframpError


class Client:
    """Classifies images with a server.

        with Client("http://127.0.0.1:8000") as client:
            answers = client.classify(["cat.jpg"], budget="low")

    An image is a path, the bytes of an image file, a Pillow image, or RGB pixels as
    an array, uint8 [H, W, 3]. Files are sent as they are. Pillow images and arrays are brought to
    the model's input size first. Methods can be called from several threads.

    Args:
        url: URL of the server.
        api_key: API key, where the server requires one.
        timeout: Seconds to connect, and between two parts of a response.
        retries: Retries of a request that a busy server refuses (429, 503).
        max_retry_seconds: Longest time to sleep before a retry, whatever `Retry-After` says.
        shrink: Bring files with more bytes than the model's input to that input before they are
            sent. The answers are those of the whole files, to the rounding of their decoder.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 0,
        max_retry_seconds: float = 30.0,
        shrink: bool = False,
    ) -> None:
        with environment():
            self._http = httpx.Client(**client_options(url, api_key, timeout))
        self._exchange = Exchange(
            self._http.build_request, Retries(retries, max_retry_seconds), shrink=shrink
        )

    def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        budget: str | None = None,
        *,
        min_confidence: float | None = None,
        deadline_ms: float | None = None,
        top_k: int = 5,
        explain: bool = False,
        reject: bool = False,
        promise: str | None = None,
    ) -> list[Answer]:
        """Classify one image or many, up to 16 in one call to the server.

        Args:
            images: One image, or many. An array [N, H, W, 3] is N images.
            budget: Name of a budget, mean flops (`120M`), a share of full depth (`40%`), or mean
                milliseconds of compute on that machine (`8ms`).
                `None`: the default budget of the model, unless `min_confidence` is given.
            min_confidence: Confidence at which an image leaves, in [0, 1], instead of a budget.
            deadline_ms: Milliseconds from the arrival of a call at the server to its answers.
            top_k: Classes to list.
            explain: Add the prediction of each exit on the way.
            reject: Add whether the picture shows no class of the model, if the model can tell.
            promise: Certified promise: a share of answers that agree with full depth (`99%`, or
                `exit:98%` at each exit), of harm (`harm:1%`), or of lost accuracy (`accuracy:1%`).
                The cheapest point that holds it is used, within a budget if one is given.

        Returns:
            One answer for each image, in their order.

        Raises:
            InvalidRequestError: An argument or an image is not valid. Its subclass tells which.
            UnreadableFileError: A path cannot be read.
            TransportError: No answer came.
            ServingError: The server refused or failed. Its subclass tells why.
        """
        query = Query(budget, min_confidence, deadline_ms, top_k, explain, reject, promise)
        return self._run(self._exchange.classify(each_image(images), query))

    def classify_iter(
        self,
        images: Iterable[ImageSource],
        budget: str | None = None,
        *,
        min_confidence: float | None = None,
        deadline_ms: float | None = None,
        top_k: int = 5,
        explain: bool = False,
        reject: bool = False,
        promise: str | None = None,
        connections: int = 8,
    ) -> Iterator[Answer | OfframpError]:
        """Classify a stream of images of any length in bounded memory, one in each call.

        Arguments and errors are as for `classify`. `connections` is the number of calls at the
        same time. An image that fails yields its error instead of raising it. An error that is
        not about one image is raised.

        Yields:
            For each image, in their order, its answer or its error.
        """
        query = Query(budget, min_confidence, deadline_ms, top_k, explain, reject, promise)
        classify = partial(self._outcome, query=query)
        return in_order(classify, images, connections)

    def model(self) -> Model:
        """Return the description of the server's model.

        Raises:
            UnauthorizedError: The API key is missing or wrong.
            TransportError: No answer came.
        """
        return self._run(self._exchange.model())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _outcome(self, image: ImageSource, query: Query) -> Outcome:
        try:
            return self._run(self._exchange.classify_one(image, query))
        except IMAGE_ERRORS as error:
            return error

    def _run(self, flow: Flow[T]) -> T:
        response = None
        while not isinstance(step := advance(flow, response), Done):
            response = None
            if isinstance(step, float):
                time.sleep(step)
                continue
            sending = Sending(step)
            step.extensions["trace"] = sending.see
            while response is None:
                try:
                    response = self._http.send(step)
                except FAILURES as error:
                    sending.check(error)
        return step.result


class AsyncClient:
    """Classifies images with a server, from asyncio.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            answers = await client.classify(["cat.jpg"], budget="low")

    Arguments are as for `Client`. Files are read, and images shrunk, in threads.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 0,
        max_retry_seconds: float = 30.0,
        shrink: bool = False,
    ) -> None:
        with environment():
            self._http = httpx.AsyncClient(**client_options(url, api_key, timeout))
        self._exchange = Exchange(
            self._http.build_request, Retries(retries, max_retry_seconds), shrink=shrink
        )

    async def classify(
        self,
        images: ImageSource | Iterable[ImageSource],
        budget: str | None = None,
        *,
        min_confidence: float | None = None,
        deadline_ms: float | None = None,
        top_k: int = 5,
        explain: bool = False,
        reject: bool = False,
        promise: str | None = None,
    ) -> list[Answer]:
        """Classify one image or many, as `Client.classify` does."""
        query = Query(budget, min_confidence, deadline_ms, top_k, explain, reject, promise)
        return await self._run(self._exchange.classify(each_image(images), query))

    async def model(self) -> Model:
        """Return the description of the server's model, as `Client.model` does."""
        return await self._run(self._exchange.model())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, flow: Flow[T]) -> T:
        response = None
        while not isinstance(step := await asyncio.to_thread(advance, flow, response), Done):
            response = None
            if isinstance(step, float):
                await asyncio.sleep(step)
                continue
            sending = Sending(step)
            step.extensions["trace"] = sending.see_async
            while response is None:
                try:
                    response = await self._http.send(step)
                except FAILURES as error:
                    sending.check(error)
        return step.result
