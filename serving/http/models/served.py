"""A loaded version of a model, with its engine and its endpoints."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.types import ASGIApp

from serving.http.classify import Classify
from serving.http.context import ServerContext
from serving.http.fast_path import FastClassify
from serving.http.oip.routes import OpenInference
from serving.http.openapi import MODELS, OPERATIONS


class ServedModel:
    """A loaded version.

    Args:
        context: Its objects. The manifest has the name and the version that it is served as.
        folder: Folder of its metrics, which is removed with it. `None`: there is none.

    Attributes:
        context: As above.
        classify: The native endpoint.
        open_inference: The endpoints of the inference protocol.
        fast_path: The endpoint for small requests of both.
    """

    def __init__(self, context: ServerContext, folder: Path | None = None) -> None:
        self.context = context
        self.classify = Classify(context)
        self.open_inference = OpenInference(context, self.classify)
        self.fast_path = FastClassify(context, self.classify, self.open_inference.fast_path)
        self._folder = folder
        self._calls = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def name(self) -> str:
        """Return the name of the model."""
        return self.context.manifest.name

    @property
    def version(self) -> str:
        """Return the version."""
        return self.context.manifest.version

    @property
    def direct(self) -> dict[str, ASGIApp]:
        """Return the endpoints that classify, by path."""
        named = MODELS.format(name=self.name)
        found: dict[str, ASGIApp] = dict.fromkeys(
            self.open_inference.infer_paths, self.open_inference
        )
        for operation in OPERATIONS:
            found |= dict.fromkeys((operation.path, named + operation.path), self.classify)
        return found

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model from closing for the time of a call, which can have no slot yet."""
        self._calls += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._unused.set()

    async def stop(self, seconds: float | None) -> None:
        """Refuse further calls, and let those in progress end within `seconds`."""
        try:
            await self.context.engine.drain(seconds)
        finally:
            self.context.metrics.refresh()  # the version can come back, and with it its gauges
            self.close()

    async def retire(self) -> None:
        """Close the model after the calls that it has. No new call finds it any more."""
        await self._unused.wait()
        await self.stop(None)

    def close(self) -> None:
        """Stop the threads, and remove the metrics of this version."""
        self.context.decoder.close()
        self.classify.thread.shutdown(wait=False)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
