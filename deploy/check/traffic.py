"""Send real traffic over HTTP at a steady rate, and count the responses in the client."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True, slots=True)
class Call:
    """A request with one image."""

    image: bytes
    query: Mapping[str, str]


@dataclass(slots=True)
class Count:
    """The client's counts.

    Attributes:
        exits: Answers by budget label and exit.
        statuses: Requests by HTTP status.
    """

    exits: Counter[tuple[str, str]] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)


def label(query: Mapping[str, str]) -> str:
    """Return the budget label under which the server's metrics count a request."""
    if "min_confidence" in query:
        return "min_confidence"
    if "promise" in query:
        return f"promise-{query['promise'].rstrip('%')}"
    return "numeric" if query["budget"][0].isdigit() else query["budget"]


def send(url: str, calls: Iterable[Call], rate: float, count: Count) -> None:
    """Send `rate` requests per second, without waiting for responses."""
    asyncio.run(_send(url, calls, rate, count))


async def _send(url: str, calls: Iterable[Call], rate: float, count: Count) -> None:
    loop = asyncio.get_running_loop()
    limits = httpx.Limits(keepalive_expiry=2)  # much shorter than the server's idle timeout
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as tasks,
    ):
        start = loop.time()
        for number, call in enumerate(calls):
            await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
            tasks.create_task(_send_one(client, call, count))


async def _send_one(client: httpx.AsyncClient, call: Call, count: Count) -> None:
    response = await client.post("/classify", params=dict(call.query), content=call.image)
    count.statuses[response.status_code] += 1
    if response.is_success:
        for answer in response.json()["answers"]:
            count.exits[label(call.query), str(answer["exit"])] += 1
