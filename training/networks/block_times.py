"""Measured time of each block of a network, to place exits by time.

Flops are a poor measure of time where the first blocks have large maps: their memory traffic costs
more than their products.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import torch
from torch import nn

WARM_UP = 2  # passes that are not counted
ROUNDS = 15

# Argument: the blocks, and the height and width of the image in pixels. Returns seconds by block.
Measure = Callable[[Sequence[nn.Module], int], list[float]]


@torch.inference_mode()
def block_seconds(
    blocks: Sequence[nn.Module],
    size: int,
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.thread_time,
) -> list[float]:
    """Measure the time of each block for one image, on one thread.

    Args:
        blocks: Each reads the output of the one before it. The first reads float32
            [1, 3, size, size]. They stay in eval mode.
        size: Height and width of the image, in pixels.
        rounds: Passes through all blocks. The result is the median, so that a pause of the
            process does not count.
        clock: Time in seconds. The default is the CPU time of this thread, which other processes
            disturb least.

    Returns:
        Seconds of each block, in order.
    """
    image = torch.zeros(1, 3, size, size)
    for block in blocks:
        block.eval()
    with _one_thread():
        for _ in range(WARM_UP):
            _pass(blocks, image, clock)
        passes = [_pass(blocks, image, clock) for _ in range(rounds)]
    return [median(times) for times in zip(*passes, strict=True)]


def _pass(
    blocks: Sequence[nn.Module], image: torch.Tensor, clock: Callable[[], float]
) -> list[float]:
    x, seconds = image, []
    for block in blocks:
        start = clock()
        x = block(x)
        seconds.append(clock() - start)
    return seconds


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
