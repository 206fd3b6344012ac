"""The methods of the service. Each takes a message and responds with the bytes of another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict

from serving.errors import BodyTooLargeError, NoAdminError
from serving.grpc.calls import (
    Call,
    CallError,
    Failure,
    Message,
    Respond,
    Status,
    respond_later,
)
from serving.grpc.errors import failure_of
from serving.grpc.inference import Inference
from serving.grpc.messages import M, parsed
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.http.models.frontend import Frontend
from serving.http.models.oip import change_model, statistics
from serving.http.models.repository import READY, Repository
from serving.http.models.served import ServedModel
from serving.http.oip.descriptions import server_metadata

SERVICE, INFER = "inference.GRPCInferenceService", "ModelInfer"
MAX_SMALL_BYTES = 1 << 12  # of a message without tensors
CHANGES = ("Load", "Unload")
ONE_MODEL = "this server has one model for good; start it with --models to change models"

Describe = Callable[[Any], object]  # of a message, with the fields of the response
Check = Callable[[Iterable[tuple[bytes, bytes]]], None]  # of the key in the metadata of a call
Start = Callable[[Call, Message, Respond], asyncio.Future[Any] | None]
Named = pb.ModelMetadataRequest  # or another request with the name and version of a model


class Method(NamedTuple):
    """A method.

    Attributes:
        check: Checks the key of a call.
        start: Starts to answer a call.
    """

    check: Check
    start: Start


class Service:
    """The service, as `calls.Methods` defines.

    Args:
        frontend: The models, with which it shares engines and limits with HTTP.
        max_images: Largest number of images in one call.
    """

    def __init__(self, frontend: Frontend, max_images: int) -> None:
        self._frontend = frontend
        self._models = frontend.models
        inference = Inference(frontend, f"{SERVICE}/{INFER}", max_images)
        key = frontend.authenticate_all
        found = {INFER: Method(key, inference.start)}
        found |= {name: Method(lambda _: None, self._small(name, describe))
                  for name, describe in self._public().items()}  # fmt: skip
        found |= {name: Method(key, self._small(name, describe))
                  for name, describe in self._guarded().items()}  # fmt: skip
        found["RepositoryIndex"] = Method(
            self._check_index, self._small("RepositoryIndex", self._index)
        )
        for change in CHANGES:
            method = Method(self._check_admin, partial(self._change, change))
            found[f"RepositoryModel{change}"] = method
        self._methods = {f"/{SERVICE}/{name}".encode(): each for name, each in found.items()}

    def open(self, call: Call) -> None:
        """Check the method and the key of a call, as `calls.Methods` defines."""
        method = self._methods.get(call.path)
        if method is None:
            name = call.path[:256].decode("latin-1")
            raise CallError(Status.UNIMPLEMENTED, f"{name} is not served")
        method.check(call.metadata)

    def start(self, call: Call, message: Message, respond: Respond) -> asyncio.Future[Any] | None:
        """Start to answer, as `calls.Methods` defines."""
        return self._methods[call.path].start(call, message, respond)

    def failure(self, error: Exception) -> Failure:
        """Count an error, and return the end of a call because of it."""
        return failure_of(self._frontend.metrics, error)

    def _public(self) -> dict[str, Describe]:
        """Return the methods that need no key."""
        return {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._frontend.refusal is None},
            "ModelReady": self._of_model(lambda each: {"ready": each.context.engine.ready}),
        }

    def _guarded(self) -> dict[str, Describe]:
        """Return the methods that need the key."""
        return {
            "ServerMetadata": lambda _: server_metadata(),
            "ModelMetadata": self._of_model(lambda each: each.open_inference.descriptions.model),
            "ModelConfig": self._of_model(
                lambda each: {"config": each.open_inference.descriptions.config()}
            ),
            "ModelStatistics": self._statistics,
        }

    def _small(self, name: str, describe: Describe) -> Start:
        """Return a method that answers at once with JSON data: fields of a message."""
        request_type, response_type = (getattr(pb, name + kind) for kind in ("Request", "Response"))

        def start(_: Call, message: Message, respond: Respond) -> None:
            data = describe(_small_message(request_type, message))
            respond(bytes(ParseDict(data, response_type()).SerializeToString()))

        return start

    def _of_model(self, describe: Callable[[ServedModel], object]) -> Describe:
        def method(request: Named) -> object:
            return describe(self._models.find(request.name, request.version))

        return method

    def _statistics(self, request: Named) -> object:
        if not request.name:
            return statistics(self._frontend)
        model = self._models.find(request.name, request.version)
        return model.open_inference.descriptions.statistics()

    def _check_index(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        repository = self._frontend.repository
        check = self._frontend if repository is None else repository
        check.authenticate_all(headers)

    def _index(self, request: pb.RepositoryIndexRequest) -> object:
        repository = self._frontend.repository
        if repository is None:
            descriptions = self._models.find_default().open_inference.descriptions
            rows = descriptions.index()
        else:
            rows = repository.index()
        return {"models": [r for r in rows if r["state"] == READY or not request.ready]}

    def _repository(self) -> Repository:
        if (repository := self._frontend.repository) is None:
            raise NoAdminError(ONE_MODEL)
        return repository

    def _check_admin(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._repository().authenticate_admin(headers)

    def _change(
        self, change: str, _: Call, message: Message, respond: Respond
    ) -> asyncio.Future[Any]:
        kind = getattr(pb, f"RepositoryModel{change}Request")
        request: Any = _small_message(kind, message)
        parameters = {
            name: getattr(each, each.WhichOneof("parameter_choice") or "", "")
            for name, each in request.parameters.items()
        }

        async def run() -> bytes:
            repository = self._repository()
            await change_model(repository, change.lower(), request.model_name, parameters)
            return b""

        return respond_later(run(), respond)


def _small_message(kind: type[M], message: Message) -> M:
    """Parse a message without tensors.

    Raises:
        BodyTooLargeError, MalformedBodyError: It is too large, or not of this kind.
    """
    if len(message) > MAX_SMALL_BYTES:
        raise BodyTooLargeError(f"the message has more than {MAX_SMALL_BYTES} bytes")
    return parsed(kind, bytes(message))
