"""The models of an app, with what all of them need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry

from serving.http.context import check_key
from serving.http.models.served import ServedModel
from serving.http.tracing.trace import Tracing
from serving.models.registry import Registry

if TYPE_CHECKING:
    from serving.http.models.repository import Repository

NO_MODEL = "no model is loaded"


class ServerCounts(Protocol):
    """The metrics of a server. Those of its models are among them."""

    registry: CollectorRegistry

    def problem(self, type_: str) -> None:
        """Count a call that was answered with a problem of this type."""

    async def keep_fresh(self) -> None:
        """Refresh live gauges for other workers, for ever if there are any."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """The models of an app.

    Attributes:
        models: The models that are loaded.
        metrics: Metrics of the server.
        api_key: Key that calls require. `None` for no key.
        repository: The calls that change the models. `None`: they never change.
        tracing: Traces of requests. `None`: they are off.
    """

    models: Registry[ServedModel]
    metrics: ServerCounts
    api_key: str | None
    repository: Repository | None = None
    tracing: Tracing | None = None

    @property
    def refusal(self) -> str | None:
        """Return the reason why calls are refused. `None`: they are taken."""
        engines = [each.context.engine for each in self.models.answering()]
        if not engines:
            return NO_MODEL
        return next((each.refusal for each in engines if each.refusal is not None), None)

    @property
    def broken(self) -> str | None:
        """Return the reason why an engine broke. `None`: all work."""
        engines = (each.context.engine for each in self.models.every())
        return next((each.broken for each in engines if each.broken is not None), None)

    def authenticate_all(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Check the API key in all headers of a call, names in lower case.

        Raises:
            UnauthorizedError: The key is missing or wrong, or there are several.
        """
        check_key(self.api_key, headers)
