"""Batches, training steps and clocks for benchmarks that time training steps."""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.fit.exported import on_device
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import Objective

SIZE, CLASSES = 32, 100


@dataclass(frozen=True, slots=True)
class Batch:
    """Random images float32 [N, 3, size, size], channels last, and targets int64 [N]."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """A training step without the optimizer, which costs the same for all objectives."""

    network: MultiExitNetwork
    objective: Objective

    def __call__(self, batch: Batch) -> None:
        """Run forward pass, backward pass and the objective's combination of gradients."""
        self.network.zero_grad()
        losses = self.objective(self.network(batch.images, self.objective.boundary), batch.targets)
        self.objective.backward(losses, self.network)


def build_step(network: MultiExitNetwork, objective: Objective, device: torch.device) -> Step:
    """Return the step of a network, moved to a device in training's memory layout."""
    return Step(on_device(network, device).train(), objective.to(device))


def random_batch(images: int, device: torch.device, size: int = SIZE) -> Batch:
    """Return a batch of so many random images of this size in pixels."""
    pixels = torch.randn(images, 3, size, size, device=device)
    targets = torch.randint(CLASSES, (images,), device=device)
    return Batch(pixels.contiguous(memory_format=torch.channels_last), targets)


def stopwatch(device: torch.device) -> Callable[[], float]:
    """Return a clock in seconds: CPU time of this process, or wall time synchronized with a GPU."""
    if device.type != "cuda":
        return time.process_time

    def wall() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall


def describe_conditions(images: int, rounds: int, device: torch.device) -> str:
    """Describe batch, rounds, machine and version of torch."""
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return (
        f"{images} images of {SIZE} pixels, float32; {rounds} rounds; {machine}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )


def positive_int(text: str) -> int:
    """Parse an argument that is a whole number above 0.

    Raises:
        argparse.ArgumentTypeError: It is not.
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)
