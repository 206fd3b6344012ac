"""Changes of the models in a server of one process."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from offramp.bundle.errors import BundleError
from serving.errors import ServingError
from serving.http.models.follower import Follower
from serving.models.planner import Planner, Wish, refusal

log = logging.getLogger(__name__)


class Changes(Protocol):
    """Makes changes: all processes follow, or no process does."""

    def start(self) -> None:
        """Begin, on the event loop."""

    def close(self) -> None:
        """Make no more changes."""

    async def make(self, wish: Wish) -> None:
        """Make a change, and return when every process serves it.

        Raises:
            UnknownModelError: There is no such version or model.
            ModelLoadError: It cannot be loaded. What served before still does.
        """

    async def reload(self) -> None:
        """Load what changed in the folder. Failures are logged."""


class OwnChanges:
    """Changes in this process only.

    Args:
        planner: Plans changes.
        follower: Serves them.
    """

    def __init__(self, planner: Planner, follower: Follower) -> None:
        self._planner = planner
        self._follower = follower
        self._one = asyncio.Lock()

    def start(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing: what loads is dropped with the process."""

    async def make(self, wish: Wish) -> None:
        """Make a change, as `Changes` defines."""
        async with self._one:
            await self._make(wish)

    async def reload(self) -> None:
        """Load what changed, as `Changes` defines."""
        async with self._one:
            try:
                wishes = self._planner.changed(self._follower.catalog)
            except BundleError as error:
                log.warning("the models were not reloaded: %s", error)
                return
            for wish in wishes:
                try:
                    await self._make(wish)
                except ServingError:
                    continue  # it is in the log
            log.info("reloaded: %s", ", ".join(map(str, wishes)) or "nothing changed")

    async def _make(self, wish: Wish) -> None:
        follower = self._follower
        before = follower.catalog
        try:
            catalog = self._planner.propose(before, wish)
            await follower.prepare(catalog)
        except Exception as error:
            follower.abort(self._planner.noting(before, wish, error))
            log.warning("%s", refusal(wish, error))
            raise refusal(wish, error) from error
        follower.commit(catalog)
        log.info("%s: done", wish)
