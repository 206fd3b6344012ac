"""Measure the peak memory and the CPU time of training steps of a recipe, on random images.

The weights are random. The memory is that of this process, without decoding processes.

    python -m benchmarks.training.photos.step_memory --recipe photos --micro-batch 16
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import torch

from benchmarks.timing import positive_int
from training.data.images import Images
from training.fit.exported import on_device
from training.fit.initial import initial_network, initial_objective, initial_optimizers
from training.fit.step.gradient import GradientAccumulator
from training.recipes import RECIPES, Recipe

CLASSES = 10


def step_times(recipe: Recipe, steps: int, micro_batch: int | None) -> list[float]:
    """Return the CPU time of each step in this process, in seconds."""
    grey = torch.full((1, 1, 1, 3), 128, dtype=torch.uint8)
    network = initial_network(recipe, CLASSES, grey)
    objective = initial_objective(recipe, network)
    on_device(network, torch.device("cpu"))
    gradient = GradientAccumulator(
        network,
        objective,
        size=recipe.size,
        bf16=recipe.precision == "bf16",
        micro_batch=micro_batch or recipe.micro_batch,
        compiler=None,
    )
    optimizers = initial_optimizers(recipe, network.train(), objective)
    shape = (recipe.batch_size, recipe.size, recipe.size, 3)
    targets = torch.arange(recipe.batch_size) % CLASSES
    batch = Images(torch.randint(256, shape, dtype=torch.uint8), targets)
    times = []
    for _ in range(steps):
        start = time.process_time()
        optimizers.zero_grad()
        gradient.add(batch, recipe.size)
        optimizers.step(0.1)
        times.append(time.process_time() - start)
    return times


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--recipe", choices=RECIPES, default="photos", help="named recipe")
    parser.add_argument("--batch", type=positive_int, help="images (default: the recipe's)")
    parser.add_argument("--micro-batch", type=positive_int, help="images in a forward pass")
    parser.add_argument("--steps", type=positive_int, default=3, help="steps after one another")
    given = parser.parse_args()
    recipe = RECIPES[given.recipe]
    recipe = recipe.model_copy(update={"batch_size": given.batch or recipe.batch_size})
    times = step_times(recipe, given.steps, given.micro_batch)
    each = "  ".join(f"{1e3 * seconds / recipe.batch_size:.0f}" for seconds in times)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{torch.get_num_threads()} threads, {recipe.batch_size} images of {recipe.size} pixels")
    print(f"CPU ms a photo in each step  {each}")
    print(f"peak memory, GB              {peak:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
