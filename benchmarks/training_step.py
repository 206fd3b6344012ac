"""What does surgery save of a training step?

For each variant and beta the table gives the backward pass's flops (multiply-adds for one
image) as torch counts them, their ratio to joint training's, and the same ratio for forward and
backward pass together, first in flops, then in time. Every round times one step of each row, in
random order, and divides it by joint training's of the same round; printed are the median and
the quartiles. Time is CPU time of this process, or wall time on a GPU.

    python -m benchmarks.training_step --rounds 9
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from training.backbones import BACKBONES, build_network
from training.errors import RecipeError
from training.flops import flops_of_step
from training.network import MultiExitNetwork
from training.objectives import build_objective
from training.surgery import Surgery, Variant

CLASSES = 100
JOINT = Surgery("joint")


def surgeries(betas: Sequence[float]) -> list[Surgery]:
    """The table's rows, joint training first."""
    variants: tuple[Variant, ...] = ("released", "paper", "unreferenced")
    return [JOINT, *(Surgery(v, b) for v in variants for b in sorted(set(betas)))]


def stopwatch(device: torch.device) -> Callable[[], float]:
    """A clock in seconds that has waited for the device."""
    if device.type != "cuda":
        return time.process_time

    def wall() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return wall


def step(network: MultiExitNetwork, images: Tensor, targets: Tensor) -> None:
    """Forward and backward pass; what an optimizer does is the same with and without surgery."""
    network.zero_grad()
    build_objective("joint", {}, network, 0.0)(network(images), targets).sum().backward()


def times(
    network: MultiExitNetwork, rows: Sequence[Surgery], batch: tuple[Tensor, Tensor], rounds: int
) -> dict[Surgery, list[float]]:
    """Seconds of each row's step in each round, after a round that does not count."""
    clock, order = stopwatch(batch[0].device), random.Random(0)
    spent: dict[Surgery, list[float]] = {row: [] for row in rows}
    for k in track(range(rounds + 1), "rounds", transient=True):
        for row in order.sample(list(rows), len(rows)):
            network.surgery = row
            start = clock()
            step(network, *batch)
            if k > 0:
                spent[row].append(clock() - start)
    return spent


def print_table(network: MultiExitNetwork, size: int, spent: dict[Surgery, list[float]]) -> None:
    """One line for each row of `spent`."""
    network.surgery = JOINT
    forward, joint = flops_of_step(network, size)
    print("                      M flops   backward      step    step time / joint")
    print("variant       beta   backward    / joint   / joint   median [quartiles]")
    for row, seconds in spent.items():
        network.surgery = row
        _, backward = flops_of_step(network, size)
        low, median, high = np.quantile(np.divide(seconds, spent[JOINT]), [0.25, 0.5, 0.75])
        beta = "" if row == JOINT else f"{row.beta:.2f}"
        print(
            f"{row.variant:12}  {beta:4} {backward / 1e6:10.2f} {backward / joint:10.4f} "
            f"{(forward + backward) / (forward + joint):9.4f}   "
            f"{median:.3f} [{low:.3f}, {high:.3f}]"
        )


def positive(text: str) -> int:
    """An argument that counts something."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number above 0")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="What does surgery save of a training step?")
    made.add_argument("--backbone", choices=BACKBONES, default="msdnet")
    made.add_argument("--betas", type=float, nargs="+", default=[0.25, 0.5, 0.75, 0.9])
    made.add_argument("--size", type=positive, default=32, help="height and width, in pixels")
    made.add_argument("--batch", type=positive, default=32, help="images in a step")
    made.add_argument("--rounds", type=positive, default=7)
    made.add_argument("--threads", type=positive, default=1, help="that torch computes with")
    made.add_argument("--device", default="cpu")
    return made


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        rows = surgeries(arguments.betas)
    except RecipeError as error:
        parser().error(str(error))
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    network = build_network(arguments.backbone, {}, CLASSES)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(arguments.batch, 3, arguments.size, arguments.size, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.randint(CLASSES, (arguments.batch,), device=device)
    spent = times(network, rows, (images, targets), arguments.rounds)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"{arguments.backbone}, {arguments.batch} images of {arguments.size} pixels, float32; "
        f"{arguments.rounds} rounds; {machine}, {arguments.threads} threads, "
        f"torch {torch.__version__}; joint: {np.median(spent[JOINT]):.3f} s a step"
    )
    print_table(network, arguments.size, spent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
