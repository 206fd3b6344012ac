"""Measure the conflict between the gradients of exits.

Surgery removes gradients. That can help if gradients of exits are opposed, and costs accuracy if
they agree. For trained runs, and for the same networks with fresh weights, the table has the
cosine between the gradients of each pair of exits, over the parameters of the stages that both
reach. It prints the mean over batches of training images and pairs, and the share of negative
cosines.

    python -m benchmarks.training.conflict --runs runs/objectives --data cifar10 \
        --rows joint dfs-released
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import positive_int
from training.data.images import Images
from training.errors import DataError, TrainingError
from training.evaluation.assessment import own_dataset
from training.fit.checkpoint import Checkpoint, load_checkpoint, new_network
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import build_objective
from training.objectives.per_exit import gradient_of_each
from training.place import CHECKPOINT


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosines between the exits' gradients, [batches, pairs]."""

    cosines: Tensor

    def __str__(self) -> str:
        mean, negative = self.cosines.mean(), (self.cosines < 0).double().mean()
        return f"{mean:+.3f}   {100 * negative:5.1f} %"


def agreement(network: MultiExitNetwork, batches: Sequence[Images]) -> Agreement:
    """Return the cosines of each pair of exits. Weights are not updated."""
    objective = build_objective("joint", {}, network, 0.0)
    network.train()
    rows = []
    for batch in batches:
        network.zero_grad()
        losses = objective(network(network.normalize(batch.pixels)), batch.targets)
        rows.append(torch.tensor(list(_cosines(gradient_of_each(losses, network), network))))
    return Agreement(torch.stack(rows))


def _cosines(jacobian: Tensor, network: MultiExitNetwork) -> Iterator[float]:
    sizes = [sum(p.numel() for p in stage.parameters()) for stage in network.stages]
    ends = np.cumsum(sizes)
    for shallow in range(network.exits):
        reached = jacobian[:, : int(ends[shallow])]
        for deep in range(shallow + 1, network.exits):
            yield float(F.cosine_similarity(reached[shallow], reached[deep], dim=0))


def batches_of(checkpoint: Checkpoint, data: str | None, count: int) -> list[Images]:
    """Return the first training batches of a run."""
    progress = checkpoint.progress
    train = own_dataset(progress, data or progress.recipe.data).train
    size = progress.recipe.batch_size
    return [
        train.select(torch.arange(k * size, (k + 1) * size) % len(train)).decoded()
        for k in range(count)
    ]


def print_run(name: str, path: Path, data: str | None, count: int) -> None:
    """Print one line for the fresh and one for the trained network of a checkpoint."""
    checkpoint = load_checkpoint(path)
    batches = batches_of(checkpoint, data, count)
    recipe = checkpoint.progress.recipe
    torch.manual_seed(recipe.seed)
    fresh = new_network(recipe, len(checkpoint.progress.labels))
    fresh.normalize.load_state_dict(checkpoint.network().normalize.state_dict())
    print(f"{name:20} fresh    {agreement(fresh, batches)}", flush=True)
    print(f"{name:20} trained  {agreement(checkpoint.network(), batches)}", flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description="Measure the conflict between the gradients of exits."
    )
    option = parser.add_argument
    rows = ["joint", "dfs-released"]
    option("--runs", type=Path, required=True, help="folder of runs <row>/seed<k>/")
    option("--rows", nargs="+", default=rows, help=f"rows to measure (default: {' '.join(rows)})")
    option("--data", help="location of the images (default: the one used in training)")
    option(
        "--batches", type=positive_int, default=20, help="training batches (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a user's error."""
    arguments = build_parser().parse_args(argv)
    print("run                          cosine   negative")
    try:
        for row in arguments.rows:
            paths = sorted((arguments.runs / row).glob(f"seed*/{CHECKPOINT}"))
            if not paths:
                raise DataError(f"--rows: there is no {row}/seed*/{CHECKPOINT} in {arguments.runs}")
            for path in paths:
                print_run(f"{row} {path.parent.name}", path, arguments.data, arguments.batches)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
