"""The endpoints of the protocol, all paths below `/v2`, as a plain ASGI app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serving.errors import ServingError
from serving.errors.requests import ONE_MODEL
from serving.http.bodies.json_call import CallReader
from serving.http.classify import Classify, headers_of, send_response
from serving.http.context import ServerContext
from serving.http.oip.descriptions import Descriptions, chosen_rows
from serving.http.oip.errors import content_of, send_not_served, send_wrong_method
from serving.http.oip.fast_path import FastInfer
from serving.http.oip.infer import Infer

ROOT = "/v2"
GET, POST = "GET", "POST"
INFER, READY = "infer", "ready"
INDEX = ("repository", "index")
CHANGES = f"{ROOT}/repository/models/"  # of a server with several models
# Methods by path below the root, then by path below a model.
SERVER_METHODS: Mapping[tuple[str, ...], str] = {
    (): GET,
    ("health", "live"): GET,
    ("health", READY): GET,
    ("models", "stats"): GET,
    INDEX: POST,
}
MODEL_METHODS: Mapping[tuple[str, ...], str] = {
    (): GET,
    (READY,): GET,
    ("config",): GET,
    ("stats",): GET,
    (INFER,): POST,
}


class _Target(NamedTuple):
    """The target of a call.

    Attributes:
        path: Path below the root, or below the model.
        method: The method that it has.
        model: Name and version of the model, the version empty for any. `None`: the server.
    """

    path: tuple[str, ...]
    method: str
    model: tuple[str, str] | None = None

    @property
    def public(self) -> bool:
        """Return whether it needs no key: health, and whether the model is ready."""
        return self.path[:1] == ("health",) or self.path == (READY,)


class OpenInference:
    """The app.

    Args:
        context: Objects that the endpoints share.
        classify: The native endpoint.

    Attributes:
        context: As above.
        classify: As above.
        infer: The endpoint for inference, without a check of the path.
        infer_paths: Its paths.
        fast_path: The endpoint for inference that a `Connection` calls without a task.
        descriptions: Descriptions of server and model.
    """

    def __init__(self, context: ServerContext, classify: Classify) -> None:
        self.context = context
        self.classify = classify
        self.infer = Infer(context, classify)
        self.descriptions = Descriptions(context)
        self._bodies = CallReader(context.body_reader.seconds)
        model = f"{ROOT}/models/{context.manifest.name}"
        version = f"{model}/versions/{context.manifest.version}"
        self.infer_paths = frozenset(f"{base}/{INFER}" for base in (model, version))
        self.fast_path = FastInfer(context, self.infer, self.infer_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call with JSON, or with the tensors of an inference."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        metrics = self.context.metrics
        target = _target_of(path.removeprefix(ROOT).split("/")[1:])
        if target is None:
            reason = ONE_MODEL if path.startswith(CHANGES) else ""
            await send_not_served(send, metrics, path, reason)
        elif scope["method"] != target.method:
            await send_wrong_method(send, metrics, path, target.method)
        else:
            try:
                self._check(target, scope)
                if target.path == (INFER,):
                    await self.infer(scope, receive, send)
                    return
                body = orjson.dumps(await self._described(target, scope, receive))
            except ClientDisconnect:
                return
            except ServingError as error:
                await send_response(send, error.status, *content_of(metrics, error))
            else:
                await send_response(send, 200, headers_of(body), body)

    def _check(self, target: _Target, scope: Scope) -> None:
        if not target.public:
            self.context.authenticate_all(scope["headers"])
        if target.model is not None:
            self.descriptions.check_name(*target.model)

    async def _described(self, target: _Target, scope: Scope, receive: Receive) -> object:
        """Return the JSON data of a call after its checks."""
        if target.path == INDEX:
            body = await self._bodies.read(scope, receive, READY)
            return chosen_rows(self.descriptions.index(), body)
        return self._of_server(target.path) if target.model is None else self._of_model(target.path)

    def _of_server(self, path: tuple[str, ...]) -> object:
        descriptions = self.descriptions
        match path:
            case ("health", "live"):
                return {"live": True}
            case ("health", _):
                descriptions.check_ready()
                return {"live": True, READY: True}  # KServe's client reads the first
            case ("models", _):
                return descriptions.statistics()
        return descriptions.server

    def _of_model(self, path: tuple[str, ...]) -> object:
        descriptions = self.descriptions
        match path:
            case ("ready",):
                descriptions.check_ready()
                return {"name": descriptions.name, READY: True}
            case ("config",):
                return descriptions.config()
            case ("stats",):
                return descriptions.statistics()
        return descriptions.model


def _target_of(parts: Sequence[str]) -> _Target | None:
    """Return the target of a path below the root, or `None` if there is none."""
    path = tuple(parts)
    if path in SERVER_METHODS:
        return _Target(path, SERVER_METHODS[path])
    match path:
        case ("models", name, "versions", version, *rest) if version:
            below = tuple(rest)
        case ("models", name, *rest):
            version, below = "", tuple(rest)
        case _:
            return None
    if below not in MODEL_METHODS or not name:
        return None
    return _Target(below, MODEL_METHODS[below], (name, version))
