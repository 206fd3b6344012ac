"""What does each objective bring, and what does a step of it cost?

Every row is trained by the recipe `cifar-comparison`, which differs between rows in nothing but
what the row is named after; then accuracy of each exit on the test images, its mean and
deviation over seeds, and its difference to the row it is compared with, seed by seed. The
second table has the time of one step (forward, backward, combination of gradients) as a ratio
to joint training's, each round timing one step of every row in random order.

    python -m benchmarks.objectives --data cifar10 --runs runs/objectives --jobs 2
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from benchmarks.comparison import (
    ROWS,
    VARIATIONS,
    Row,
    Run,
    finished,
    recipe_of,
    runs_of,
    train_all,
)
from benchmarks.training_step import stopwatch
from training.checkpoint import new_network
from training.errors import TrainingError
from training.network import MultiExitNetwork
from training.objectives import Objective, build_objective
from training.recipes import RECIPES

CLASSES = 100
COMBINING = ("pcgrad", "cagrad", "nash-mtl", "meta-gf")
Accuracies = Mapping[Run, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step of one row runs."""

    network: MultiExitNetwork
    objective: Objective

    def __call__(self, images: Tensor, targets: Tensor) -> None:
        """Forward and backward pass and what the objective makes of the gradients."""
        self.network.zero_grad()
        self.objective.backward(self.objective(self.network(images), targets), self.network)


def step_of(row: Row, shape: Mapping[str, object], device: torch.device) -> Step:
    """The step of a row on a network of this shape."""
    recipe = recipe_of(Run(row, 0)).model_copy(update={"shape": dict(shape)})
    torch.manual_seed(0)
    network = new_network(recipe, CLASSES)
    objective = build_objective(recipe.objective, recipe.objective_options, network, 0.0)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Step(network.train(), objective.to(device))


def step_times(
    rows: Sequence[Row], shape: Mapping[str, object], batch: int, rounds: int, device: torch.device
) -> dict[Row, NDArray[np.float64]]:
    """Seconds of each row's step in each round, after one that does not count."""
    steps = {row: step_of(row, shape, device) for row in rows}
    images = torch.randn(batch, 3, 32, 32, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    targets = torch.randint(CLASSES, (batch,), device=device)
    clock, order = stopwatch(device), random.Random(0)
    spent: dict[Row, list[float]] = {row: [] for row in rows}
    for k in track(range(rounds + 1), "rounds", transient=True):
        for row in order.sample(list(rows), len(rows)):
            start = clock()
            steps[row](images, targets)
            if k > 0:
                spent[row].append(clock() - start)
    return {row: np.array(seconds) for row, seconds in spent.items()}


def print_costs(spent: Mapping[Row, NDArray[np.float64]]) -> dict[str, float]:
    """One line for each row; the median ratio to joint training's step by row name."""
    joint = next(seconds for row, seconds in spent.items() if row.name == "joint")
    print("\nrow                          step / joint, median [quartiles]")
    medians = {}
    for row, seconds in spent.items():
        low, median, high = np.quantile(seconds / joint, [0.25, 0.5, 0.75])
        medians[row.name] = float(median)
        print(f"{row.name:28} {median:.3f} [{low:.3f}, {high:.3f}]")
    return medians
