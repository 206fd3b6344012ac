"""The method `ModelInfer`: without a task for small requests, as over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from time import perf_counter
from typing import Any
from weakref import WeakKeyDictionary

from serving.engine.request import Answer
from serving.engine.request import Call as EngineCall
from serving.grpc.calls import Call, Message, Respond, respond_later
from serving.grpc.errors import status_of
from serving.grpc.messages import MessageSplitter, Parts, RequestReader, ResponseWriter
from serving.http.connection import RequestHead
from serving.http.connection.request_id import NAME, valid_request_id
from serving.http.fast_path import MAX_BODY_BYTES, submit_small
from serving.http.models.frontend import Frontend
from serving.http.models.served import ServedModel
from serving.http.oip.inputs import InputReader
from serving.http.oip.parameters import ParameterReader
from serving.http.oip.protocol import InferRequest
from serving.http.tracing.parent import fields_of
from serving.http.tracing.trace import Trace

# A deadline of a call above this bounds no exit, so that exits run as without one. The connection
# ends the call at its deadline.
LONGEST_DEADLINE = 10.0
MARGIN = 0.005  # seconds before a call's deadline, for the answer on its way
OK, CANCELLED = "OK", "CANCELLED"


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
    """The method.

    Args:
        frontend: The models.
        name: Name of the method, for traces.
        max_images: Largest number of images in one call.
    """

    def __init__(self, frontend: Frontend, name: str, max_images: int) -> None:
        self._frontend = frontend
        self._models = frontend.models
        self._name = name
        self._splitter = MessageSplitter(max_images)
        self._endpoints = WeakKeyDictionary[ServedModel, Endpoint]()

    def start(self, call: Call, message: Message, respond: Respond) -> asyncio.Future[Any] | None:
        """Start to answer, as `calls.Methods` defines."""
        trace = self._begin_trace(call)
        try:
            small = len(message) <= MAX_BODY_BYTES
            started = self._start_small(call, message, respond, trace) if small else None
        except Exception as error:
            _end_trace(trace, status_of(error).name)
            raise
        if started is not None:
            return started
        return respond_later(self._answer(call, message, trace), respond)

    def _start_small(
        self, call: Call, message: Message, respond: Respond, trace: Trace | None
    ) -> asyncio.Future[Any] | None:
        """Start to answer without a task. Return `None` if the images are not small."""
        parts = self._splitter.split(message)
        model = self._model_of(parts)
        endpoint, context, size = self._endpoint_of(model), model.context, len(message)
        context.body_reader.hold(size)
        try:
            request = endpoint.reader.read(parts, _seconds_of(call))
            self._splitter.keep(parts)
            head = RequestHead(b"", "", "", call.arrived, trace=trace)
            if trace is not None:
                trace.name_request(request.id)
            started = submit_small(context, request.images, request.parsed.policy, head)
        finally:
            context.body_reader.release(size)
        if started is None:
            return None
        future = started[0].future
        end = partial(self._end, model, request, trace, respond, started[0])
        future.add_done_callback(end)
        return future

    def _end(
        self,
        model: ServedModel,
        request: InferRequest,
        trace: Trace | None,
        respond: Respond,
        call: EngineCall,
        _: object,
    ) -> None:
        """Respond with the answers of a small request."""
        model.context.engine.close(call)
        if call.future.cancelled():
            _end_trace(trace, CANCELLED)
            return
        try:
            answers = call.future.result()
            content = self._endpoint_of(model).writer.write(request, answers)
        except Exception as error:  # noqa: BLE001 (becomes the status)
            respond(error)
            _end_trace(trace, status_of(error).name)
        else:
            respond(content)
            _end_trace(trace, OK, answers)

    async def _answer(self, call: Call, message: Message, trace: Trace | None) -> bytes:
        """Return the response to a request of any kind."""
        try:
            content = await self._content(call, message, trace)
        except BaseException as error:
            _end_trace(trace, status_of(error).name)
            raise
        if trace is not None:
            trace.end_grpc(OK)
        return content

    async def _content(self, call: Call, message: Message, trace: Trace | None) -> bytes:
        size, parts = len(message), self._splitter.split(message)
        del message  # the images are copies, or views of it
        model = self._model_of(parts)
        endpoint, bodies = self._endpoint_of(model), model.context.body_reader
        with model.in_use():
            bodies.hold(size)
            try:
                request = endpoint.reader.read(parts, _seconds_of(call))
                del parts
                if trace is not None:
                    trace.name_request(request.id)
                answers, _ = await model.classify.answers(
                    request.images, request.parsed, call.arrived, trace=trace
                )
            finally:
                bodies.release(size)
        return endpoint.writer.write(request, answers)

    def _model_of(self, parts: Parts) -> ServedModel:
        name, version = parts.template.model
        version = version or self._models.version_for(name, parts.id.encode())
        return self._models.find(name, version)

    def _endpoint_of(self, model: ServedModel) -> Endpoint:
        found = self._endpoints.get(model)
        if found is None:
            found = self._endpoints[model] = Endpoint(model)
        return found

    def _begin_trace(self, call: Call) -> Trace | None:
        """Return the trace of a call, with the parent's span and the id in its metadata."""
        tracing = self._frontend.tracing
        if tracing is None:
            return None
        ids = [value for name, value in call.metadata if name == NAME]
        request_id = valid_request_id(ids[0]) if len(ids) == 1 else b""
        return tracing.begin(self._name, fields_of(call.metadata), call.arrived, request_id)


def _seconds_of(call: Call) -> float | None:
    """Return the time from arrival in which a call must have its answer. `None` for no bound."""
    if call.seconds is None:
        return None
    left = call.seconds - (perf_counter() - call.arrived)
    return None if left > LONGEST_DEADLINE else max(left - MARGIN, MARGIN / 1000)


def _end_trace(trace: Trace | None, status: str, answers: Sequence[Answer] = ()) -> None:
    if trace is not None:
        trace.answers = answers
        trace.end_grpc(status)
