"""Flows: an exchange as steps without any input or output.

A flow is a generator of steps. A step is a request, to which the flow is given the response, or a
number of seconds to sleep. `advance` runs a flow to its next step.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

import httpx

T = TypeVar("T")
Step = httpx.Request | float
Flow = Generator[Step, httpx.Response | None, T]


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """The result of a flow that has ended."""

    result: T


def advance(flow: Flow[T], response: httpx.Response | None) -> Step | Done[T]:
    """Run a flow to its next step.

    Args:
        flow: The flow.
        response: The response to its last step. `None` after a sleep, and to start it.
    """
    try:
        return flow.send(response)
    except StopIteration as end:
        return Done(end.value)
