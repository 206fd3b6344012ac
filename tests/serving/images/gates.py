"""Decodings that end when a test lets them, and waits for what threads do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ONE = np.zeros((1, 1, 3), np.uint8)


class Gate:
    """A decoding that ends when the gate is opened, and notes when it runs."""

    def __init__(self, log: list[str], name: str) -> None:
        self.opened, self.entered = threading.Event(), threading.Event()
        self._log, self._name = log, name

    def __call__(self) -> NDArray[np.uint8]:
        self._log.append(self._name)
        self.entered.set()
        assert self.opened.wait(20)
        return ONE


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (threads set it)
            await asyncio.sleep(0.001)


async def entered(gate: Gate) -> None:
    await until(gate.entered.is_set)
