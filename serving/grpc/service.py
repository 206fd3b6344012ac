"""The methods of the service. Each takes the bytes of a message and returns those of another."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from serving.errors import BodyTooLargeError, NoAdminError, ServingError
from serving.errors.requests import ONE_MODEL
from serving.grpc.calls import keys_of
from serving.grpc.errors import COUNTING, Call, abort
from serving.grpc.inference import INFER, SERVICE, Inference
from serving.grpc.messages import M, parameter_values, parsed
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.http.models.frontend import Frontend
from serving.http.models.oip import change_model, statistics
from serving.http.models.served import ServedModel
from serving.http.oip.descriptions import chosen_rows, server_metadata
from serving.http.problems import INTERNAL_ERROR

MAX_SMALL_BYTES = 1 << 12  # of a message without tensors
log = logging.getLogger(__name__)

CHANGES = ("Load", "Unload")

Method = Callable[[Any], object]  # of a message, with the fields of the response
Handler = Callable[[Any, Call], Awaitable[bytes]]  # of the bytes of a message
Check = Callable[[Iterable[tuple[bytes, bytes]]], None]  # of the key in the headers of a call
Named = pb.ModelMetadataRequest  # or another request with the name and version of a model


class Service:
    """The service.

    Args:
        frontend: The models, with which it shares engines and limits with HTTP.
        inference: The method `ModelInfer`.
    """

    def __init__(self, frontend: Frontend, inference: Inference) -> None:
        self._frontend = frontend
        self._models = frontend.models
        self._inference = inference

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of all methods."""
        # The only message of an inference is read by its method, which so bounds what is received.
        handlers = {
            INFER: grpc.stream_unary_rpc_method_handler(self._with_status(self._inference.infer)),
            "RepositoryIndex": self._unary(self._small("RepositoryIndex", self._index, self._list)),
        }
        for name, method in self._public().items():
            handlers[name] = self._unary(self._small(name, method, lambda _: None))
        for name, method in self._guarded().items():
            check = self._frontend.authenticate_all
            handlers[name] = self._unary(self._small(name, method, check))
        for change in CHANGES:
            handlers[f"RepositoryModel{change}"] = self._unary(partial(self._change, change))
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _public(self) -> dict[str, Method]:
        """Return the methods that need no key, by name."""
        return {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._frontend.refusal is None},
            "ModelReady": self._of_model(lambda each: {"ready": each.context.engine.ready}),
        }

    def _guarded(self) -> dict[str, Method]:
        """Return the methods that need the key, by name."""
        return {
            "ServerMetadata": lambda _: server_metadata(),
            "ModelMetadata": self._of_model(lambda each: each.open_inference.descriptions.model),
            "ModelConfig": self._of_model(
                lambda each: {"config": each.open_inference.descriptions.config()}
            ),
            "ModelStatistics": self._statistics,
        }

    def _unary(self, answer: Handler) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(self._with_status(answer))

    def _with_status(self, answer: Handler) -> Handler:
        """Return a handler that ends a call with the status of its error."""

        async def handle(request: object, call: Call) -> bytes:
            try:
                return await answer(request, call)
            except ServingError as error:
                failed = error
            except Exception:
                log.exception("Exception in a method of gRPC")
                failed = INTERNAL_ERROR
            return await abort(call, COUNTING.get(self._frontend.metrics), failed)

        return handle

    def _small(self, name: str, method: Method, check: Check) -> Handler:
        """Return the handler of a method that answers with JSON data: fields of a message."""
        request_type, response_type = (getattr(pb, name + kind) for kind in ("Request", "Response"))

        async def answer(message: bytes, call: Call) -> bytes:
            check(keys_of(call))
            data = method(_small_message(request_type, message))
            return bytes(ParseDict(data, response_type()).SerializeToString())

        return answer

    def _of_model(self, describe: Callable[[ServedModel], object]) -> Method:
        def method(request: Named) -> object:
            return describe(self._models.find(request.name, request.version))

        return method

    def _statistics(self, request: Named) -> object:
        if not request.name:
            return statistics(self._frontend)
        model = self._models.find(request.name, request.version)
        return model.open_inference.descriptions.statistics()

    def _list(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
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
        return {"models": chosen_rows(rows, {"ready": request.ready})}

    async def _change(self, change: str, message: bytes, call: Call) -> bytes:
        repository = self._frontend.repository
        if repository is None:
            raise NoAdminError(ONE_MODEL)
        repository.authenticate_admin(keys_of(call))
        kind = getattr(pb, f"RepositoryModel{change}Request")
        request: Any = _small_message(kind, message)
        parameters = parameter_values(request.parameters, missing="")
        await change_model(repository, change.lower(), request.model_name, parameters)
        return b""


def _small_message(kind: type[M], message: bytes) -> M:
    """Parse a message without tensors.

    Raises:
        BodyTooLargeError, MalformedBodyError: It is too large, or not of this kind.
    """
    if len(message) > MAX_SMALL_BYTES:
        text = f"the message has more than {MAX_SMALL_BYTES} bytes; send its fields alone"
        raise BodyTooLargeError(text)
    return parsed(kind, message)
