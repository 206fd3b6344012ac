"""The spans of a request, made by hand after its response from the times that it collected.

    POST /classify                     request
    ├── decode                         its images
    ├── queue                          from there to its first batch, or to the end
    ├── stage 1, stage 2, ...          each batch that it was part of (or: whole network)
    └── answer                         from its last batch to the end of the response

A span that is started and ended around each step costs several times more, and the steps run on
different threads.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from serving.engine.request import Answer, Run
from serving.http.tracing.parent import SAMPLED, Parent
from serving.http.tracing.trace import End, Trace

Value = str | bool | int | float | Sequence[int]
FLAGS = TraceFlags(SAMPLED)
ERROR, UNSET = Status(StatusCode.ERROR), Status(StatusCode.UNSET)
TRACE_BITS, SPAN_BITS = 128, 64


class SpanBuilder:
    """Builds the spans of requests.

    Args:
        resource: The server.
        scope: The library that makes the spans.
    """

    def __init__(self, resource: Resource, scope: InstrumentationScope) -> None:
        self._resource = resource
        self._scope = scope
        self._bits = random.Random().getrandbits  # noqa: S311 (ids, no secrets)

    def build(self, trace: Trace, end: End) -> list[ReadableSpan]:
        """Return the spans of a request that ended. That of the request is the first."""
        if trace.parent is None:
            parent, state, trace_id = None, TraceState(), self._bits(TRACE_BITS) or 1
        else:
            parent = _context_of(trace.parent)
            state, trace_id = parent.trace_state, parent.trace_id
        root = self._context(trace_id, state)
        request = _Step(trace.name, trace.arrived, end.at, _attributes(trace, end))
        status = ERROR if end.error else UNSET
        spans = [self._span(request, root, parent, end, SpanKind.SERVER, status)]
        spans += [
            self._span(step, self._context(trace_id, state), root, end)
            for step in _steps(trace, end)
        ]
        return spans

    def _context(self, trace_id: int, state: TraceState) -> SpanContext:
        """Return the context of a new span."""
        span_id = self._bits(SPAN_BITS) or 1
        return SpanContext(trace_id, span_id, is_remote=False, trace_flags=FLAGS, trace_state=state)

    def _span(
        self,
        step: _Step,
        context: SpanContext,
        parent: SpanContext | None,
        end: End,
        kind: SpanKind = SpanKind.INTERNAL,
        status: Status = UNSET,
    ) -> ReadableSpan:
        return ReadableSpan(
            name=step.name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=step.attributes,
            kind=kind,
            status=status,
            start_time=end.at_ns - int((end.at - step.start) * 1e9),
            end_time=end.at_ns - int((end.at - step.end) * 1e9),
            instrumentation_scope=self._scope,
        )


class _Step(NamedTuple):
    """A step of a request, with times by `time.perf_counter`."""

    name: str
    start: float
    end: float
    attributes: Mapping[str, Value]


def _context_of(parent: Parent) -> SpanContext:
    state = TraceState.from_header([parent.state]) if parent.state else TraceState()
    return SpanContext(
        parent.trace_id, parent.span_id, is_remote=True, trace_flags=FLAGS, trace_state=state
    )


def _attributes(trace: Trace, end: End) -> dict[str, Value]:
    attributes: dict[str, Value] = {**end.attributes}
    if trace.request_id:
        attributes["offramp.request_id"] = trace.request_id.decode(errors="replace")
    if end.error:
        attributes["error.type"] = end.error
    if trace.answers:
        attributes |= _answer_attributes(trace.answers)
    return attributes


def _answer_attributes(answers: Sequence[Answer]) -> dict[str, Value]:
    attributes: dict[str, Value] = {
        "offramp.budget": answers[0].policy.asked,
        "offramp.exits": [answer.exit for answer in answers],
        "offramp.flops": sum(answer.flops for answer in answers),
    }
    if any(answer.deadline_hit for answer in answers):
        attributes["offramp.deadline_hit"] = True
    if any(answer.degraded for answer in answers):
        attributes["offramp.degraded"] = True
    return attributes


def _steps(trace: Trace, end: End) -> list[_Step]:
    """Return the steps that a request reached, in the order in which they began."""
    if trace.decode is None:
        return []
    began, decoded = trace.decode
    images = len(trace.runs)
    steps = [_Step("decode", began, decoded, {"offramp.images": images})]
    batches = _batches(trace.runs)
    first = min((run.started for run in batches), default=end.at)
    steps.append(_Step("queue", decoded, max(first, decoded), {}))
    for run, members in batches.items():
        steps.append(_batch_step(run, members if images > 1 else None))
    if trace.answers:
        last = max((run.ended for run in batches), default=decoded)
        steps.append(_Step("answer", last, end.at, {}))
    return steps


def _batch_step(run: Run, images: Sequence[int] | None) -> _Step:
    """Return the step of a batch, with the images in it that are of the request, of several."""
    attributes: dict[str, Value] = {"offramp.stage": run.stage + 1, "offramp.batch_size": run.size}
    if images is not None:
        attributes["offramp.images"] = images
    name = "whole network" if run.whole_network else f"stage {run.stage + 1}"
    return _Step(name, run.started, run.ended, attributes)


def _batches(runs: Sequence[Sequence[Run]]) -> dict[Run, list[int]]:
    """Return the batches of a request in the order of their begin, with the images in each."""
    batches: dict[Run, list[int]] = {}
    for image, found in enumerate(runs):
        for run in tuple(found):  # a stage thread can append to it still
            batches.setdefault(run, []).append(image)
    return dict(sorted(batches.items(), key=lambda item: item[0].started))
