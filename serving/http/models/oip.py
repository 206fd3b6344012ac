"""The model of a call of the inference protocol, and the calls of the server and its repository."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from serving.errors import MalformedBodyError, NotReadyError, ServingError
from serving.http.bodies.json_call import CallReader
from serving.http.classify import headers_of, send_response
from serving.http.connection.request_id import request_id_of
from serving.http.models.frontend import Frontend
from serving.http.models.repository import Repository
from serving.http.models.served import ServedModel
from serving.http.oip.descriptions import Data, chosen_rows, server_metadata
from serving.http.oip.errors import content_of, send_not_served, send_wrong_method
from serving.http.oip.routes import INFER, POST, READY, ROOT, SERVER_METHODS
from serving.http.query import version_of
from serving.model_settings import parse_share

LOAD, UNLOAD = "load", "unload"
VERSION, SHARE, SHADOW = "version", "share", "shadow"  # parameters of such a call
DEPENDENTS = "unload_dependents"  # sent by Triton's clients. No model has any
PARAMETERS = {LOAD: (VERSION, SHARE, SHADOW), UNLOAD: (DEPENDENTS,)}
Path = tuple[str, ...]


class OpenInferenceModels:
    """The app of several models.

    Args:
        frontend: The models.
        repository: The calls that change them.
        body_seconds: Longest time to receive the body of a call of the repository.
    """

    def __init__(self, frontend: Frontend, repository: Repository, body_seconds: float) -> None:
        self._frontend = frontend
        self._repository = repository
        self._bodies = CallReader(body_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a call with JSON, or by its model."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        parts = tuple(path.removeprefix(ROOT).split("/")[1:])
        metrics = self._frontend.metrics
        if (method := _method_of(parts)) is None and not _is_of_model(parts):
            await send_not_served(send, metrics, path)
            return
        if method is not None and scope["method"] != method:
            await send_wrong_method(send, metrics, path, method)
            return
        try:
            if method is None:
                await self._pass_on(parts, scope, receive, send)
                return
            body = orjson.dumps(await self._answer(parts, scope, receive))
        except ClientDisconnect:
            return
        except ServingError as error:
            await send_response(send, error.status, *content_of(metrics, error))
        else:
            await send_response(send, 200, headers_of(body), body)

    async def _pass_on(self, parts: Path, scope: Scope, receive: Receive, send: Send) -> None:
        model = self._model_of(parts, scope)
        with model.in_use():
            await model.open_inference(scope, receive, send)

    def _model_of(self, parts: Path, scope: Scope) -> ServedModel:
        if parts[-1] != READY:
            self._frontend.authenticate_all(scope["headers"])
        version = parts[3] if parts[2:3] == ("versions",) and len(parts) > 3 else ""
        version = version or version_of(scope["query_string"])
        models = self._frontend.models
        if parts[-1] == INFER:
            version = version or models.version_for(parts[1], request_id_of(scope))
        return models.find(parts[1], version)

    async def _answer(self, parts: Path, scope: Scope, receive: Receive) -> object:
        match parts:
            case ("repository", "models", name, change):
                self._repository.authenticate_admin(scope["headers"])
                body = await self._bodies.read(scope, receive, "parameters")
                await change_model(self._repository, change, name, _parameters_in(body))
                return {}
            case ("repository", _):
                self._repository.authenticate_all(scope["headers"])
                body = await self._bodies.read(scope, receive, "ready")
                return chosen_rows(self._repository.index(), body)
            case ("health", which):
                if which == READY and (reason := self._frontend.refusal) is not None:
                    raise NotReadyError(reason)
                return {"live": True} | ({READY: True} if which == READY else {})
        self._frontend.authenticate_all(scope["headers"])
        return statistics(self._frontend) if parts else server_metadata()


async def change_model(
    repository: Repository, change: str, name: str, parameters: Mapping[str, object]
) -> None:
    """Load or unload a model, as `Repository` does.

    Raises:
        MalformedBodyError: A parameter is unknown, or has a wrong value.
        ServingError: As `Repository` raises.
    """
    unknown = parameters.keys() - PARAMETERS[change]
    if unknown:
        known = ", ".join(PARAMETERS[change])
        raise MalformedBodyError(f"parameters: {change} has no {min(unknown)!r}, only {known}")
    version = _version_in(parameters)
    if SHARE in parameters and SHADOW in parameters:
        raise MalformedBodyError(f"{SHARE} and {SHADOW} exclude each other: leave one out")
    trial = SHADOW if SHADOW in parameters else SHARE
    share = _share_in(parameters, trial)
    if change == UNLOAD:
        await repository.unload(name)
    else:
        await repository.load(name, version, share, shadow=trial == SHADOW)


def _version_in(parameters: Mapping[str, object]) -> str:
    if VERSION not in parameters:
        return ""
    version = parameters[VERSION]
    if isinstance(version, bool) or not isinstance(version, str | int):
        raise MalformedBodyError(f"{VERSION}: neither a string nor an integer")
    if version == "":  # of a variable that is not set, and perhaps a rollback
        raise MalformedBodyError(f"{VERSION}: empty; name a version, or leave it out")
    return str(version)


def _share_in(parameters: Mapping[str, object], name: str) -> float:
    try:
        return parse_share(parameters.get(name, 1))
    except ValueError as error:
        raise MalformedBodyError(f"{name}: {error}") from error


def statistics(frontend: Frontend) -> Data:
    """Return the statistics of all models that are loaded."""
    found = [each.open_inference.descriptions.statistics() for each in frontend.models.every()]
    return {"model_stats": [row for each in found for row in each["model_stats"]]}


def _method_of(parts: Path) -> str | None:
    """Return the method of a call of the server or the repository. `None`: it is of neither."""
    if parts[:2] == ("repository", "models") and len(parts) == 4 and parts[3] in (LOAD, UNLOAD):
        return POST
    return SERVER_METHODS.get(parts)


def _is_of_model(parts: Path) -> bool:
    return len(parts) > 1 and parts[0] == "models" and bool(parts[1])


def _parameters_in(body: Mapping[str, object]) -> Mapping[str, object]:
    parameters = body.get("parameters", {})
    if not isinstance(parameters, dict):
        raise MalformedBodyError("the body is no JSON object with parameters")
    return parameters
