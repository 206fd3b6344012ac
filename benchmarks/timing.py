"""What the benchmarks that time training steps share."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.networks.multi_exit import MultiExitNetwork
from training.objectives import Objective

SIZE, CLASSES = 32, 100


@dataclass(frozen=True, slots=True)
class Batch:
    """Noise: images [N, 3, SIZE, SIZE], channels last, and targets int64 [N]."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """A training step but for the optimizer, which does the same whatever came before it."""

    network: MultiExitNetwork
    objective: Objective

    def __call__(self, batch: Batch) -> None:
        """Forward and backward pass and what the objective makes of the gradients."""
        self.network.zero_grad()
        losses = self.objective(self.network(batch.images, self.objective.boundary), batch.targets)
        self.objective.backward(losses, self.network)


def step(network: MultiExitNetwork, objective: Objective, device: torch.device) -> Step:
    """The step of a network that is put on a device as training puts it there."""
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload] # a layout alone is not in torch's stubs
    return Step(network.train(), objective.to(device))


def noise(images: int, device: torch.device) -> Batch:
    """A batch to time by."""
    pixels = torch.randn(images, 3, SIZE, SIZE, device=device)
    targets = torch.randint(CLASSES, (images,), device=device)
    return Batch(pixels.contiguous(memory_format=torch.channels_last), targets)


def stopwatch(device: torch.device) -> Callable[[], float]:
    """A clock in seconds: CPU time of this process, or wall time that has waited for a GPU."""
    if device.type != "cuda":
        return time.process_time

    def wall() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall


def conditions(images: int, rounds: int, device: torch.device) -> str:
    """What was timed where."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return (
        f"{images} images of {SIZE} pixels, float32; {rounds} rounds; {machine}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)
