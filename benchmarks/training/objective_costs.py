"""Measure the time of a training step for each objective.

The table has the time of one step (forward, backward, combination of gradients) as a ratio to
joint training, on the paper's MSDNet with 7 exits. Every round times one step of every row, in
random order, and divides it by joint training's step of the same round. Time is CPU time of this
process, or wall time on a GPU.

    python -m benchmarks.training.objective_costs --rounds 7
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.goals import Goal, print_goals
from benchmarks.timing import (
    CLASSES,
    Step,
    build_step,
    describe_conditions,
    positive_int,
    random_batch,
    stopwatch,
)
from benchmarks.training.comparison import ROWS, Plan, Row, Run
from training.fit.checkpoint import new_network
from training.objectives import build_objective
from training.recipes import Recipe

COMBINING = ("pcgrad", "cagrad", "nash-mtl", "meta-gf")
DFS = ("dfs-paper", "dfs-released")
MAX_RATIO = 0.5
CHEAP = (
    *("dfs-conflict", "distillation-scaled", "distillation-ensemble", "mixed", "additive"),
    "equilibrium",
)
MAX_OF_JOINT = 1.3


def step_of(recipe: Recipe, device: torch.device) -> Step:
    """Return the training step of a recipe on a network with fresh weights."""
    torch.manual_seed(0)
    network = new_network(recipe, CLASSES)
    objective = build_objective(recipe.objective, recipe.objective_options, network, 0.0)
    return build_step(network, objective, device)


def step_times(
    recipes: Mapping[Row, Recipe], batch: int, rounds: int, device: torch.device
) -> dict[Row, NDArray[np.float64]]:
    """Time each row's step, in seconds, [rounds], after a warm-up round.

    Images have the size of the recipe.
    """
    steps = {row: step_of(recipe, device) for row, recipe in recipes.items()}
    images = {row: random_batch(batch, device, recipe.size) for row, recipe in recipes.items()}
    clock, order = stopwatch(device), random.Random(0)
    spent: dict[Row, list[float]] = {row: [] for row in recipes}
    for k in track(range(rounds + 1), "rounds", transient=True):
        for row in order.sample(list(recipes), len(recipes)):
            start = clock()
            steps[row](images[row])
            if k > 0:
                spent[row].append(clock() - start)
    return {row: np.array(seconds) for row, seconds in spent.items()}


def quartiles(spent: Mapping[Row, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the quartiles of the ratio to joint training's step by row name, each [3]."""
    joint = next(seconds for row, seconds in spent.items() if row.name == "joint")
    return {
        row.name: np.quantile(seconds / joint, [0.25, 0.5, 0.75]) for row, seconds in spent.items()
    }


def print_costs(found: Mapping[str, NDArray[np.float64]]) -> None:
    """Print one line for each row."""
    print("row                    step / joint, median [quartiles]")
    for name, (low, median, high) in found.items():
        print(f"{name:22} {median:.3f} [{low:.3f}, {high:.3f}]")


def goals(found: Mapping[str, NDArray[np.float64]]) -> list[Goal]:
    """Compare DFS with the rules that combine gradients, and the others with joint training."""
    medians = {name: float(median) for name, (_, median, _) in found.items()}
    dear = {name: medians[name] for name in CHEAP if medians[name] > MAX_OF_JOINT}
    return [
        Goal(
            f"a step of {', '.join(CHEAP)} takes at most {MAX_OF_JOINT} of joint training's",
            ", ".join(f"{name} {ratio:.3f}" for name, ratio in dear.items()) or "all of them",
            not dear,
        ),
        *_goals_of_surgery(medians),
    ]


def _goals_of_surgery(medians: Mapping[str, float]) -> list[Goal]:
    return [
        Goal(
            f"a step of {ours} takes at most {MAX_RATIO} of a step of {theirs}",
            f"{medians[ours] / medians[theirs]:.3f}",
            medians[ours] <= MAX_RATIO * medians[theirs],
        )
        for ours in DFS
        for theirs in COMBINING
    ]


def measure(batch: int, rounds: int, device: torch.device) -> list[Goal]:
    """Time all rows, print the table and return the goals."""
    recipes = {row: Plan().recipe_of(Run(row, 0)).model_copy(update={"shape": {}}) for row in ROWS}
    found = quartiles(step_times(recipes, batch, rounds, device))
    print(f"\nMSDNet with 7 exits, {describe_conditions(batch, rounds, device)}")
    print_costs(found)
    return goals(found)


def main() -> int:
    """Run the benchmark and return the exit status, 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description="Measure the time of a training step for each objective.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--batch", type=positive_int, default=16, help="images in a step")
    option("--rounds", type=positive_int, default=7, help="timed rounds")
    option("--threads", type=positive_int, default=1, help="threads of torch")
    option("--device", default="cpu", help="device of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return print_goals(measure(arguments.batch, arguments.rounds, torch.device(arguments.device)))


if __name__ == "__main__":
    sys.exit(main())
