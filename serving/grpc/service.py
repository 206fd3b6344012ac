"""The methods of the service. Each takes the bytes of a message and returns those of another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict

from serving.errors import BodyTimeoutError, BodyTooLargeError, EmptyBodyError, ServingError
from serving.grpc.errors import Call, abort, code_of
from serving.grpc.messages import RequestReader, ResponseWriter, parsed
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.http.connection.request_id import NAME, valid_request_id
from serving.http.oip.inputs import InputReader
from serving.http.oip.parameters import ParameterReader
from serving.http.oip.routes import OpenInference
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

Method = Callable[[Any], object]  # of a message, with the fields of the response
Handler = Callable[[Any, Call], Awaitable[bytes]]  # of the bytes of a message
Named = pb.ModelMetadataRequest  # or another request with the name and version of a model


class Service:
    """The service.

    Args:
        protocol: The protocol over HTTP, with which it shares model, engine and limits.
        receiving: Largest number of messages with tensors that are received at the same time.
        seconds: Longest time from the head of a call to the end of its message.
    """

    def __init__(self, protocol: OpenInference, receiving: int, seconds: float) -> None:
        self._context = protocol.context
        self._classify = protocol.classify
        self._descriptions = protocol.descriptions
        manifest = self._context.manifest
        self._reader = RequestReader(
            InputReader(manifest.input, self._context.max_images),
            ParameterReader(protocol.classify.query_reader),
            protocol.descriptions,
        )
        self._writer = ResponseWriter(manifest)
        self._receiving = asyncio.Semaphore(receiving)
        self._seconds = seconds

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of all methods."""
        public: dict[str, Method] = {
            "ServerLive": lambda _: {"live": True},
            "ServerReady": lambda _: {"ready": self._context.engine.ready},
            "ModelReady": self._model_ready,
        }
        guarded: dict[str, Method] = {
            "ServerMetadata": lambda _: self._descriptions.server,
            "ModelMetadata": self._of_model(lambda: self._descriptions.model),
            "ModelConfig": self._of_model(lambda: {"config": self._descriptions.config()}),
            "ModelStatistics": self._statistics,
            "RepositoryIndex": self._index,
        }
        # The only message of an inference is read by its method, which so bounds what is received.
        handlers = {INFER: grpc.stream_unary_rpc_method_handler(self._with_status(self._infer))}
        for name, method in {**public, **guarded}.items():
            answer = self._with_status(self._small(name, method, guarded=name in guarded))
            handlers[name] = grpc.unary_unary_rpc_method_handler(answer)
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

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
            return await abort(call, self._context.metrics, failed)

        return handle

    def _authenticate(self, call: Call) -> None:
        self._context.authenticate_all(
            (key.encode(), str(value).encode("latin-1", "replace"))
            for key, value in call.invocation_metadata() or ()
            if key == AUTHORIZATION
        )

    def _small(self, name: str, method: Method, *, guarded: bool) -> Handler:
        """Return the handler of a method that answers with JSON data: fields of a message."""
        request_type, response_type = (getattr(pb, name + kind) for kind in ("Request", "Response"))

        async def answer(message: bytes, call: Call) -> bytes:
            if guarded:
                self._authenticate(call)
            if len(message) > MAX_SMALL_BYTES:
                raise BodyTooLargeError(f"the message has more than {MAX_SMALL_BYTES} bytes")
            data = method(parsed(request_type, message))
            return bytes(ParseDict(data, response_type()).SerializeToString())

        return answer

    def _of_model(self, describe: Callable[[], object]) -> Method:
        def method(request: Named) -> object:
            self._descriptions.check_name(request.name, request.version)
            return describe()

        return method

    def _model_ready(self, request: Named) -> object:
        self._descriptions.check_name(request.name, request.version)
        return {"ready": self._context.engine.ready}

    def _statistics(self, request: Named) -> object:
        if request.name:  # none: of all models
            self._descriptions.check_name(request.name, request.version)
        return self._descriptions.statistics()

    def _index(self, request: pb.RepositoryIndexRequest) -> object:
        ready = self._context.engine.ready
        return {"models": self._descriptions.index() if ready or not request.ready else []}

    async def _infer(self, _: object, call: Call) -> bytes:
        arrived, tracing = perf_counter(), self._context.tracing
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
        self._authenticate(call)
        message = await self._message(call)
        context = self._context
        context.body_reader.hold(len(message))
        size = len(message)
        try:
            request = self._reader.read(message, seconds)
            del message  # the images are copies, or views of it
            if trace is not None:
                trace.name_request(request.id)
            answers, _ = await self._classify.answers(
                request.images, request.parsed, arrived, trace=trace
            )
        finally:
            context.body_reader.release(size)
        return self._writer.write(request, answers)

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
