"""A worker's link to its supervisor, by which changes of the models are made in all workers."""

from __future__ import annotations

import asyncio
import logging
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from offramp.tasks import start_task
from serving.errors import NotReadyError
from serving.http.models.follower import Follower
from serving.models.catalog import Catalog
from serving.models.messages import (
    Abort,
    Ask,
    Commit,
    Committed,
    FromWorker,
    Making,
    Prepare,
    Prepared,
    Reply,
)
from serving.models.planner import Wish

GONE = "the server is shutting down; try again when it is back"
log = logging.getLogger(__name__)


class LinkedChanges:
    """Asks the supervisor for changes, and makes those that it decides.

    Args:
        follower: The models of this worker.
        pipe: Pipe to the supervisor.
    """

    def __init__(self, follower: Follower, pipe: Pipe) -> None:
        self._follower = follower
        self._pipe = pipe
        self._numbers = count()
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Listen to the supervisor, on the event loop."""
        asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._receive)

    async def make(self, wish: Wish) -> None:
        """Make a change, as `Changes` defines.

        Raises:
            NotReadyError: The supervisor ends before it is made.
        """
        number = next(self._numbers)
        answered = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self._pipe.send(Ask(number, wish))
            await answered
        except OSError as error:
            raise NotReadyError(GONE) from error
        finally:
            del self._asked[number]

    async def reload(self) -> None:
        """Do nothing: the supervisor gets the signal that asks for it."""

    def close(self) -> None:
        """Listen no more."""
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._fail_asked()
        for task in self._tasks:
            task.cancel()

    def _receive(self) -> None:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self._fail_asked()
            return
        match message:
            case Making(name, version):
                self._follower.preparing = frozenset({(name, version)})
            case Prepare(catalog, graphs):
                start_task(self._prepare(catalog, graphs), self._tasks)
            case Commit(catalog):
                self._follower.commit(catalog)
                self._send(Committed(catalog.number))
            case Abort(catalog):
                self._follower.abort(catalog)
            case Reply(number, error):
                self._take_reply(number, error)

    def _take_reply(self, number: int, error: Exception | None) -> None:
        answered = self._asked.get(number)
        if answered is not None and not answered.done():
            answered.set_result(None) if error is None else answered.set_exception(error)

    async def _prepare(self, catalog: Catalog, graphs: Path | None) -> None:
        reason: str | None = None
        try:
            await self._follower.prepare(catalog, graphs)
        except Exception as error:  # noqa: BLE001 (the supervisor gets it)
            reason = str(error) or type(error).__name__
        self._send(Prepared(catalog.number, reason))

    def _send(self, message: FromWorker) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            log.warning(GONE)

    def _fail_asked(self) -> None:
        for answered in self._asked.values():
            if not answered.done():
                answered.set_exception(NotReadyError(GONE))
