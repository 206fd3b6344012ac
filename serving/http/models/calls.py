"""The model of a native call: by the name in its path, and the version in its query."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from serving.errors import ServingError
from serving.http.connection.request_id import request_id_of
from serving.http.models.frontend import Frontend
from serving.http.models.served import ServedModel
from serving.http.problems import error_response
from serving.http.query import version_of

NAME = "name"  # of the model, in a route


class ModelCalls:
    """The endpoint of all models for native calls, a plain ASGI app.

    Args:
        frontend: The models.
    """

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call by its model, or with a problem."""
        try:
            self._frontend.authenticate_all(scope["headers"])
            model = self._model_of(scope)
        except ServingError as error:
            await error_response(self._frontend.metrics, error)(scope, receive, send)
            return
        with model.in_use():
            await model.classify(scope, receive, send)

    def _model_of(self, scope: Scope) -> ServedModel:
        models, version = self._frontend.models, version_of(scope["query_string"])
        name: str | None = scope.get("path_params", {}).get(NAME)
        version = version or models.version_for(name or models.default, request_id_of(scope))
        return models.find_default(version) if name is None else models.find(name, version)
