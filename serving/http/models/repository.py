"""The calls that list and change the models, over HTTP, gRPC and by SIGHUP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from serving.errors import NoAdminError, UnauthorizedError
from serving.http.context import check_key
from serving.http.models.changes import Changes
from serving.http.models.follower import Follower
from serving.models.folder import ModelFolder
from serving.models.planner import Wish

READY, UNAVAILABLE, LOADING = "READY", "UNAVAILABLE", "LOADING"  # states, as in Triton
NOT_LOADED = "not loaded"
Headers = Iterable[tuple[bytes, bytes]]


class Repository:
    """The models in the folder and in this server.

    Args:
        folder: The folder.
        follower: The models of this process.
        changes: Makes changes.
        admin_key: Key that changes require. `None`: no call can make one.
        api_key: Key that all other calls require. `None` for no key.
    """

    def __init__(
        self,
        folder: ModelFolder,
        follower: Follower,
        changes: Changes,
        admin_key: str | None,
        api_key: str | None,
    ) -> None:
        self._folder = folder
        self._follower = follower
        self._changes = changes
        self._admin_key = admin_key
        self._api_key = api_key

    def authenticate_admin(self, headers: Headers) -> None:
        """Check the admin key in all headers of a call, names in lower case.

        Raises:
            NoAdminError: The server has no such key.
            UnauthorizedError: It is missing or wrong, or there are several.
        """
        if self._admin_key is None:
            raise NoAdminError(
                "this server has no admin key (--admin-key-file), so no call can change its models"
            )
        check_key(self._admin_key, headers)

    def authenticate_all(self, headers: Headers) -> None:
        """Check for either key in all headers of a call, names in lower case.

        Raises:
            UnauthorizedError: Both are wrong, or there are several.
        """
        headers = [*headers]
        try:
            check_key(self._api_key, headers)
        except UnauthorizedError:
            if self._admin_key is None:
                raise
            check_key(self._admin_key, headers)

    def start(self) -> None:
        """Begin to take changes, on the event loop."""
        self._changes.start()

    async def close(self) -> None:
        """Take no more changes."""
        self._changes.close()
        await self._follower.close()

    async def load(
        self, name: str, version: str = "", share: float = 1.0, *, shadow: bool = False
    ) -> None:
        """Load a version of a model, and serve it in place of the one that answered.

        Args:
            name: Name of the model.
            version: The version. Empty: the newest in the folder.
            share: Below 1 it is a canary, which answers this share of the calls.
            shadow: It gets copies of this share of the answered requests instead.

        Raises:
            UnknownModelError: There is no such version.
            ModelLoadError: It cannot be loaded. What served before still does.
        """
        await self._changes.make(Wish(name, version, share=share, shadow=shadow))

    async def unload(self, name: str) -> None:
        """Unload a model, after the calls that it has.

        Raises:
            UnknownModelError: It is not loaded.
        """
        await self._changes.make(Wish(name, unload=True))

    async def reload(self) -> None:
        """Load what changed in the folder. Failures are logged."""
        await self._changes.reload()

    def index(self) -> list[dict[str, Any]]:
        """Return all versions in the folder and in this server, with state and reason."""
        catalog = self._follower.catalog
        keys = {(name, v) for name in self._names() for v in self._folder.versions(name)}
        keys |= {(each.name, each.version) for each in catalog.entries()}
        keys |= catalog.failures.keys() | self._follower.preparing
        rows = sorted(keys, key=lambda key: (key[0], int(key[1])))
        return [self._row(name, version) for name, version in rows]

    def _names(self) -> list[str]:
        try:
            return self._folder.names()
        except OSError:
            return []

    def _row(self, name: str, version: str) -> dict[str, Any]:
        state, reason = UNAVAILABLE, self._follower.catalog.failures.get((name, version))
        if (name, version) in self._follower.preparing:
            state = LOADING
        elif (model := self._follower.models.get(name, version)) is not None:
            refusal = model.context.engine.refusal
            reason = reason or self._trial_of(name, version)
            state, reason = (READY, reason) if refusal is None else (state, refusal)
        elif reason is None:
            reason = NOT_LOADED
        return {"name": name, "version": version, "state": state, "reason": reason or ""}

    def _trial_of(self, name: str, version: str) -> str:
        """Return in words how a version is tried. Empty: it is not."""
        catalog = self._follower.catalog
        canary, shadow = catalog.canaries.get(name), catalog.shadows.get(name)
        if canary is not None and canary.version == version:
            return f"a canary for {canary.share:g} of the calls"
        if shadow is not None and shadow.version == version:
            return f"a shadow of {shadow.share:g} of the requests"
        return ""
