"""The method `ModelInfer`: from the message of a call to the message of its answer."""

from __future__ import annotations

import asyncio
from time import perf_counter
from weakref import WeakKeyDictionary

from serving.errors import BodyTimeoutError, EmptyBodyError
from serving.grpc.calls import keys_of, seconds_of, traced_metadata
from serving.grpc.errors import COUNTING, Call, code_of
from serving.grpc.messages import MessageSplitter, Parts, RequestReader, ResponseWriter
from serving.http.classify import READ_AT_ONCE
from serving.http.models.frontend import Frontend
from serving.http.models.served import ServedModel
from serving.http.oip.inputs import InputReader
from serving.http.oip.parameters import ParameterReader
from serving.http.oip.protocol import InferRequest
from serving.http.tracing.trace import Trace

SERVICE, INFER = "inference.GRPCInferenceService", "ModelInfer"


class Endpoint:
    """Reader and writer of the inferences of one model."""

    def __init__(self, model: ServedModel) -> None:
        context = model.context
        self.reader = RequestReader(
            InputReader(context.manifest.input, context.max_images),
            ParameterReader(model.classify.query_reader),
        )
        self.writer = ResponseWriter(context.manifest)


class Inference:
    """The method `ModelInfer` of all models.

    Args:
        frontend: The models, with which it shares engines and limits with HTTP.
        max_images: Largest number of images in one call.
        receiving: Largest number of messages that are received at the same time.
        seconds: Longest time from the head of a call to the end of its message.
    """

    def __init__(self, frontend: Frontend, max_images: int, receiving: int, seconds: float) -> None:
        self._frontend = frontend
        self._models = frontend.models
        self._splitter = MessageSplitter(max_images)
        self._endpoints = WeakKeyDictionary[ServedModel, Endpoint]()
        self._receiving = asyncio.Semaphore(receiving)
        self._seconds = seconds

    async def infer(self, _: object, call: Call) -> bytes:
        """Receive the only message of a call, and answer it.

        Raises:
            ServingError: The call is refused or has failed.
        """
        arrived, tracing = perf_counter(), self._frontend.tracing
        if tracing is None:
            return await self._answer(call, arrived, None)
        fields, request_id = traced_metadata(call)
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
        seconds = seconds_of(call)
        self._frontend.authenticate_all(keys_of(call))
        return await self._infer_from(await self._message(call), arrived, seconds, trace)

    async def _infer_from(
        self, message: bytes, arrived: float, seconds: float | None, trace: Trace | None
    ) -> bytes:
        size, parts = len(message), self._splitter.split(message)
        del message  # the images are copies, or views of it
        name, version = parts.template.model
        version = version or self._models.version_for(name, parts.id.encode())
        model = self._models.find(name, version)
        COUNTING.set(model.context.metrics)
        endpoint, bodies = self._endpoint_of(model), model.context.body_reader
        with model.in_use():
            bodies.hold(size)
            try:
                request = await self._read(model, endpoint, parts, seconds, size)
                self._splitter.keep(parts)
                del parts
                if trace is not None:
                    trace.name_request(request.id)
                answers, _ = await model.classify.answers(
                    request.images, request.parsed, arrived, trace=trace
                )
            finally:
                bodies.release(size)
        return endpoint.writer.write(request, answers)

    @staticmethod
    async def _read(
        model: ServedModel, endpoint: Endpoint, parts: Parts, seconds: float | None, size: int
    ) -> InferRequest:
        """Read a request. Much base64 takes long, so a thread decodes it, as over HTTP."""
        if size <= READ_AT_ONCE or not parts.template.tensor.base64:
            return endpoint.reader.read(parts, seconds)
        thread, read = model.classify.thread, endpoint.reader.read
        return await asyncio.get_running_loop().run_in_executor(thread, read, parts, seconds)

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
