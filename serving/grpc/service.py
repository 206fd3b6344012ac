"""The methods of the service. Each takes the bytes of a message and returns those of another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

import grpc
from google.protobuf.json_format import ParseDict

from serving.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    EmptyBodyError,
    NoAdminError,
    ServingError,
)
from serving.grpc.errors import Call, abort, code_of
from serving.grpc.messages import M, RequestReader, ResponseWriter, parsed, split_request
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.http.connection.request_id import NAME, valid_request_id
from serving.http.models.frontend import Frontend
from serving.http.models.oip import change_model, statistics
from serving.http.models.repository import READY
from serving.http.models.served import ServedModel
from serving.http.oip.descriptions import server_metadata
from serving.http.oip.inputs import InputReader
from serving.http.oip.parameters import ParameterReader
from serving.http.problems import INTERNAL_ERROR
from serving.http.tracing.parent import fields_of
from serving.http.tracing.trace import Trace

SERVICE, INFER = "inference.GRPCInferenceService", "ModelInfer"
AUTHORIZATION = "authorization"
MAX_SMALL_BYTES = 1 << 12  # of a message without tensors
# A deadline of a call above this bounds no exit, so that exits run as without one. gRPC cancels
# the call at its deadline.
LONGEST_DEADLINE = 10.0
MARGIN = 0.005  # seconds before a call's deadline, for the answer on its way
log = logging.getLogger(__name__)

CHANGES = ("Load", "Unload")
ONE_MODEL = "this server has one model for good; start it with --models to change models"

Method = Callable[[Any], object]  # of a message, with the fields of the response
Handler = Callable[[Any, Call], Awaitable[bytes]]  # of the bytes of a message
Check = Callable[[Iterable[tuple[bytes, bytes]]], None]  # of the key in the headers of a call
Named = pb.ModelMetadataRequest  # or another request with the name and version of a model


class Endpoint:
    """Reader and writer of the inferences of one model."""

    def __init__(self, model: ServedModel) -> None:
        context = model.context
        self.reader = RequestReader(
            InputReader(context.manifest.input, context.max_images),
            ParameterReader(model.classify.query_reader),
        )
        self.writer = ResponseWriter(context.manifest)


class Service:
    """The service.

    Args:
        frontend: The models, with which it shares engines and limits with HTTP.
        max_images: Largest number of images in one call.
        receiving: Largest number of messages with tensors that are received at the same time.
        seconds: Longest time from the head of a call to the end of its message.
    """

    def __init__(self, frontend: Frontend, max_images: int, receiving: int, seconds: float) -> None:
        self._frontend = frontend
        self._models = frontend.models
        self._max_images = max_images
        self._endpoints = WeakKeyDictionary[ServedModel, Endpoint]()
        self._receiving = asyncio.Semaphore(receiving)
        self._seconds = seconds

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of all methods."""
        public: dict[str, Method] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._frontend.refusal is None},
            "ModelReady": self._of_model(lambda each: {"ready": each.context.engine.ready}),
        }
        guarded: dict[str, Method] = {
            "ServerMetadata": lambda _: server_metadata(),
            "ModelMetadata": self._of_model(lambda each: each.open_inference.descriptions.model),
            "ModelConfig": self._of_model(
                lambda each: {"config": each.open_inference.descriptions.config()}
            ),
            "ModelStatistics": self._statistics,
        }
        # The only message of an inference is read by its method, which so bounds what is received.
        handlers = {
            INFER: grpc.stream_unary_rpc_method_handler(self._with_status(self._infer)),
            "RepositoryIndex": self._unary(self._small("RepositoryIndex", self._index, self._list)),
        }
        for name, method in public.items():
            handlers[name] = self._unary(self._small(name, method, lambda _: None))
        for name, method in guarded.items():
            check = self._frontend.authenticate_all
            handlers[name] = self._unary(self._small(name, method, check))
        for change in CHANGES:
            handlers[f"RepositoryModel{change}"] = self._unary(partial(self._change, change))
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

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
            return await abort(call, self._frontend.metrics, failed)

        return handle

    def _small(self, name: str, method: Method, check: Check) -> Handler:
        """Return the handler of a method that answers with JSON data: fields of a message."""
        request_type, response_type = (getattr(pb, name + kind) for kind in ("Request", "Response"))

        async def answer(message: bytes, call: Call) -> bytes:
            check(_keys_of(call))
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
        return {"models": [r for r in rows if r["state"] == READY or not request.ready]}

    async def _change(self, change: str, message: bytes, call: Call) -> bytes:
        repository = self._frontend.repository
        if repository is None:
            raise NoAdminError(ONE_MODEL)
        repository.authenticate_admin(_keys_of(call))
        kind = getattr(pb, f"RepositoryModel{change}Request")
        request: Any = _small_message(kind, message)
        parameters = {
            name: getattr(each, each.WhichOneof("parameter_choice") or "", "")
            for name, each in request.parameters.items()
        }
        await change_model(repository, change.lower(), request.model_name, parameters)
        return b""

    async def _infer(self, _: object, call: Call) -> bytes:
        arrived, tracing = perf_counter(), self._frontend.tracing
        if tracing is None:
            return await self._answer(call, arrived, None)
        fields, request_id = _traced_metadata(call)
        trace = tracing.begin(f"{SERVICE}/{INFER}", fields, arrived, request_id)
        try:
            content = await self._answer(call, arrived, trace)
        except BaseException as error:
            if trace is not None:
                trace.end_grpc(code_of(error).name)
            raise
        if trace is not None:
            trace.end_grpc("OK")
        return content

    async def _answer(self, call: Call, arrived: float, trace: Trace | None) -> bytes:
        seconds = _seconds_of(call)
        self._frontend.authenticate_all(_keys_of(call))
        return await self._infer_from(await self._message(call), arrived, seconds, trace)

    async def _infer_from(
        self, message: bytes, arrived: float, seconds: float | None, trace: Trace | None
    ) -> bytes:
        size, parts = len(message), split_request(message, self._max_images)
        del message  # the images are copies, or views of it
        name, version = parts.request.model_name, parts.request.model_version
        version = version or self._models.version_for(name, parts.request.id.encode())
        model = self._models.find(name, version)
        endpoint, bodies = self._endpoint_of(model), model.context.body_reader
        with model.in_use():
            bodies.hold(size)
            try:
                request = endpoint.reader.read(parts, seconds)
                del parts
                if trace is not None:
                    trace.name_request(request.id)
                answers, _ = await model.classify.answers(
                    request.images, request.parsed, arrived, trace=trace
                )
            finally:
                bodies.release(size)
        return endpoint.writer.write(request, answers)

    def _endpoint_of(self, model: ServedModel) -> Endpoint:
        found = self._endpoints.get(model)
        if found is None:
            found = self._endpoints[model] = Endpoint(model)
        return found

    async def _message(self, call: Call) -> bytes:
        """Receive the message of a call, when few others are received."""
        try:
            async with asyncio.timeout(self._seconds), self._receiving:
                message = await call.read()
        except TimeoutError as error:
            raise BodyTimeoutError(
                f"the message took more than {self._seconds:g} s to arrive; send smaller images"
            ) from error
        if not isinstance(message, bytes):
            raise EmptyBodyError("the call has no message")
        return message


def _seconds_of(call: Call) -> float | None:
    """Return the time in which a call must have its answer. `None` for no bound."""
    left: float | None = call.time_remaining()
    if left is None or left > LONGEST_DEADLINE:
        return None
    return max(left - MARGIN, MARGIN / 1000)


def _traced_metadata(call: Call) -> tuple[tuple[bytes, bytes], bytes]:
    """Return the fields of the parent's span in the metadata of a call, and its request id."""
    pairs = [
        (key.encode(), value.encode("latin-1", "replace"))
        for key, value in call.invocation_metadata() or ()
        if isinstance(value, str)
    ]
    found = [value for key, value in pairs if key == NAME]
    return fields_of(pairs), valid_request_id(found[0]) if len(found) == 1 else b""


def _keys_of(call: Call) -> list[tuple[bytes, bytes]]:
    """Return the metadata of a call in which its key is."""
    return [
        (key.encode(), str(value).encode("latin-1", "replace"))
        for key, value in call.invocation_metadata() or ()
        if key == AUTHORIZATION
    ]


def _small_message(kind: type[M], message: bytes) -> M:
    """Parse a message without tensors.

    Raises:
        BodyTooLargeError, MalformedBodyError: It is too large, or not of this kind.
    """
    if len(message) > MAX_SMALL_BYTES:
        raise BodyTooLargeError(f"the message has more than {MAX_SMALL_BYTES} bytes")
    return parsed(kind, message)
