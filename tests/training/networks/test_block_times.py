"""The time of each block is a median over passes, on one thread and in eval mode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from training.networks.block_times import WARM_UP, block_seconds


class Clock:
    """A clock that moves only when a block runs."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Block(nn.Module):
    """A block that takes the given seconds, one after the other."""

    def __init__(self, clock: Clock, *seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, list(seconds)
        self.states: list[tuple[bool, int, tuple[int, ...]]] = []

    def forward(self, x: Tensor) -> Tensor:
        """Return the image, doubled in size."""
        self.clock.now += self.seconds.pop(0)
        self.states.append((self.training, torch.get_num_threads(), tuple(x.shape)))
        return x.repeat(1, 1, 2, 2)


def test_the_median_of_the_passes_after_the_warm_up_counts() -> None:
    clock = Clock()
    cold = [100.0] * WARM_UP
    blocks = [
        Block(clock, *cold, 1.0, 2.0, 3.0),
        Block(clock, *cold, 4.0, 4.0, 9000.0),  # the process paused once
    ]
    assert block_seconds(blocks, 4, rounds=3, clock=clock) == [2.0, 4.0]
    assert not blocks[0].seconds
    assert not blocks[1].seconds


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
def test_a_block_reads_one_image_on_one_thread_in_eval_mode() -> None:
    clock, passes = Clock(), WARM_UP + 1
    blocks = [Block(clock, *[1.0] * passes).train() for _ in range(2)]
    block_seconds(blocks, 4, rounds=1, clock=clock)
    assert blocks[0].states == [(False, 1, (1, 3, 4, 4))] * passes
    assert blocks[1].states == [(False, 1, (1, 3, 8, 8))] * passes
    assert torch.get_num_threads() == 2


def test_real_blocks_take_time() -> None:
    blocks = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)]
    assert all(seconds > 0 for seconds in block_seconds(blocks, 32, rounds=3))
