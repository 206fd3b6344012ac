"""Calls in threads, with their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2  # calls under way or answered for each connection
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    call: Callable[[Item], Result], items: Iterable[Item], connections: int
) -> Iterator[Result]:
    """Call a function with each item in so many threads, and yield the results in order.

    The items are read a bounded number ahead. At an error, and if the iterator is closed, calls
    that have not started are cancelled.
    """
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(connections, "client") as executor:
        try:
            for item in items:
                running.append(executor.submit(call, item))
                while running and (len(running) > AHEAD * connections or running[0].done()):
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
