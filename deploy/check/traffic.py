"""Real traffic over HTTP at a steady rate, and the client's own count of what came back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import httpx


@dataclass(frozen=True, slots=True)
class Call:
    """One image, and what is asked of it."""

    image: bytes
    query: Mapping[str, str]


@dataclass(slots=True)
class Count:
    """What the client saw.

    Attributes:
        exits: answers by budget label and exit.
        statuses: calls by HTTP status.
    """

    exits: Counter[tuple[str, str]] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)


def label(query: Mapping[str, str]) -> str:
    """The budget label under which the server's metrics count a query."""
    if "min_confidence" in query:
        return "min_confidence"
    return "numeric" if query["budget"][0].isdigit() else query["budget"]


def send(url: str, calls: Iterable[Call], rate: float, count: Count) -> None:
    """Send the calls, `rate` of them in a second, whether or not answers come in time."""
    asyncio.run(_send(url, calls, rate, count))


async def _send(url: str, calls: Iterable[Call], rate: float, count: Count) -> None:
    loop = asyncio.get_running_loop()
    limits = httpx.Limits(keepalive_expiry=2)  # long before the server closes idle connections
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, limits=limits) as client,
        asyncio.TaskGroup() as tasks,
    ):
        start = loop.time()
        for number, call in enumerate(calls):
            await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
            tasks.create_task(_one(client, call, count))


async def _one(client: httpx.AsyncClient, call: Call, count: Count) -> None:
    answer = await client.post("/classify", params=dict(call.query), content=call.image)
    count.statuses[answer.status_code] += 1
    if answer.is_success:
        for one in answer.json()["answers"]:
            count.exits[label(call.query), str(one["exit"])] += 1
