"""Measure the seconds of a training step, with what other processes leave of the device.

    python -m benchmarks.gpu.step_seconds --classes 100 --seconds 8 -- cifar-paper --data X --out Y

The arguments after `--` are those of `offramp train`. Images are random, and nothing is written.
The last line is the number.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import torch

from training.data.images import Images
from training.fit.checkpoint import new_network
from training.fit.exported import on_device
from training.fit.initial import initial_objective, initial_optimizers
from training.fit.step.gradient import GradientAccumulator
from training.options import read_run
from training.recipes import Recipe

WARM_UP, AT_ONCE = 5, 5  # steps


def step_of(recipe: Recipe, classes: int, device: torch.device) -> Callable[[], None]:
    """Return a training step of a recipe on random images."""
    network = on_device(new_network(recipe, classes), device)
    network.normalize.std.fill_(0.25)
    objective = initial_objective(recipe, network).to(device)
    gradient = GradientAccumulator(
        network.train(),
        objective,
        size=recipe.size,
        bf16=recipe.precision == "bf16",
        micro_batch=recipe.micro_batch,
        compiler=None,
    )
    optimizers = initial_optimizers(recipe, network, objective)
    shape = recipe.batch_size, recipe.size, recipe.size, 3
    pixels = torch.randint(256, shape, dtype=torch.uint8, device=device)
    images = Images(pixels, torch.randint(classes, shape[:1], device=device))

    def step() -> None:
        optimizers.zero_grad()
        gradient.add(images, None)
        optimizers.step(1e-3)

    return step


def seconds_of(step: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Return the mean seconds of a step, over so many seconds at least, after some steps."""

    def run(count: int) -> None:
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    run(WARM_UP)
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds or not done:
        run(AT_ONCE)
        done += AT_ONCE
    return spent / done


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the number and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, required=True, help="number of labels")
    parser.add_argument("--seconds", type=float, default=8, help="how long to measure")
    parser.add_argument("training", nargs="+", help="arguments of `offramp train`, after --")
    given = parser.parse_args(argv)
    options, recipe = read_run(given.training)
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(auto if options.device == "auto" else options.device)
    print(seconds_of(step_of(recipe, given.classes, device), given.seconds, device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
