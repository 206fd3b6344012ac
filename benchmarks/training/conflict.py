"""Measure the conflict between the gradients of exits.

Surgery removes gradients. That can help if gradients of exits are opposed or one is much longer,
and costs accuracy if they agree. For trained runs, for the epochs that they kept
(`offramp train --keep-every`), and for the same networks with fresh weights, the table has the
cosine between the gradients of each pair of exits, over the parameters of the stages that both
reach, and the ratio of their lengths, deeper to shallower. Gradients are those of joint training,
before any surgery. With `--classes` they are also measured for images of each class alone. The
table has means over batches of training images and pairs, and the share of negative cosines.
`--out` writes all pairs.

    python -m benchmarks.training.conflict --runs runs/objectives --data cifar10 \
        --rows joint dfs-released --classes 10 --out results
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import positive_int
from training.data.images import ImageFiles, Images
from training.errors import DataError, TrainingError
from training.evaluation.assessment import own_dataset
from training.fit.checkpoint import Progress, load_checkpoint, new_network
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import build_objective
from training.objectives.per_exit import gradient_of_each
from training.output_folder import CHECKPOINT
from training.surgery.boundary import Surgery

ALL = "all"  # group of the images of all classes
TABLE = "conflict.csv"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Cosines of the exits' gradients, and ratios of their lengths, deeper to shallower.

    Both are float [batches, pairs], with pairs in the order of `itertools.combinations`.
    """

    cosines: Tensor
    ratios: Tensor

    def __str__(self) -> str:
        mean, negative = self.cosines.mean(), (self.cosines < 0).double().mean()
        return f"{mean:+.3f}   {100 * negative:5.1f} %   {self.ratios.log().mean().exp():6.2f}"


@dataclass(frozen=True, slots=True)
class Line:
    """Agreement of a pair of exits, counted from 1, over batches. `epoch` 0: fresh weights."""

    row: str
    seed: str
    epoch: int
    images: str
    shallow: int
    deep: int
    cosine: float
    negative: float
    ratio: float


def agreement(network: MultiExitNetwork, batches: Sequence[Images]) -> Agreement:
    """Return the agreement of each pair of exits. Weights are not updated."""
    surgeries = [network.surgery_at(k) for k in range(1, network.exits)]
    if not any(surgery.changes_values for surgery in surgeries):
        network.surgery = Surgery("joint")
    objective = build_objective("joint", {}, network, 0.0)
    network.train()
    found = []
    for batch in batches:
        network.zero_grad()
        losses = objective(network(network.normalize(batch.pixels)), batch.targets)
        found.append(torch.tensor(list(_pairs(gradient_of_each(losses, network), network))))
    return Agreement(*torch.stack(found).unbind(dim=-1))


def _pairs(jacobian: Tensor, network: MultiExitNetwork) -> Iterator[tuple[float, float]]:
    """Yield cosine and ratio of each pair, over the parameters that both reach."""
    sizes = [sum(p.numel() for p in stage.parameters()) for stage in network.stages]
    ends = np.cumsum(sizes)
    for shallow, deep in combinations(range(network.exits), 2):
        one, other = jacobian[shallow, : ends[shallow]], jacobian[deep, : ends[shallow]]
        yield float(F.cosine_similarity(one, other, dim=0)), float(other.norm() / one.norm())


class Batches:
    """Training images of runs in groups. Images that two runs have in common are read once.

    Args:
        data: Location of the images. `None` is the location used in training.
        count: Number of batches of all classes.
        classes: Number of classes that are also measured alone.
    """

    def __init__(self, data: str | None, count: int, classes: int) -> None:
        self._data, self._count, self._classes = data, count, classes
        self._groups: tuple[str, Mapping[str, list[Images]]] = ("", {})

    def of_run(self, progress: Progress) -> Mapping[str, list[Images]]:
        """Return batches by the name of their class, or ALL."""
        size = progress.recipe.batch_size
        key = f"{progress.fingerprint} {size}"
        if self._groups[0] != key:
            train = own_dataset(progress, self._data or progress.recipe.data).train
            self._groups = key, dict(self._grouped(train, size, progress.labels))
        return self._groups[1]

    def _grouped(
        self, train: Images | ImageFiles, size: int, labels: Sequence[str]
    ) -> Iterator[tuple[str, list[Images]]]:
        places = (torch.arange(k * size, (k + 1) * size) % len(train) for k in range(self._count))
        yield ALL, [train.select(place).decoded() for place in places]
        for number, label in enumerate(labels[: self._classes]):
            place = torch.nonzero(train.targets == number).flatten()[:size]
            if len(place) > 1:  # batch norm cannot train on one image
                yield label, [train.select(place).decoded()]


def networks_of(path: Path) -> Iterator[tuple[int, MultiExitNetwork]]:
    """Yield the network of a run by epoch: fresh, of each kept epoch, and of the last one."""
    last = load_checkpoint(path)
    recipe, classes = last.progress.recipe, len(last.progress.labels)
    torch.manual_seed(recipe.seed)
    fresh = new_network(recipe, classes)
    fresh.normalize.load_state_dict(last.network().normalize.state_dict())
    yield 0, fresh
    for kept in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}")):
        checkpoint = load_checkpoint(kept)
        if len(checkpoint.progress.epochs) < len(last.progress.epochs):
            yield len(checkpoint.progress.epochs), checkpoint.network()
    yield len(last.progress.epochs), last.network()


def lines_of(path: Path, batches: Batches) -> Iterator[Line]:
    """Print a line for each network and group of images of a run, and yield those of all pairs."""
    row, seed = path.parent.parent.name, path.parent.name
    groups = batches.of_run(load_checkpoint(path).progress)
    for epoch, network in networks_of(path):
        for images, group in groups.items():
            found = agreement(network, group)
            print(f"{f'{row} {seed}':26} {epoch:5}  {images:14} {found}", flush=True)
            for k, pair in enumerate(combinations(range(1, network.exits + 1), 2)):
                cosines, ratios = found.cosines[:, k], found.ratios[:, k]
                negative = float((cosines < 0).double().mean())
                means = float(cosines.mean()), negative, float(ratios.log().mean().exp())
                yield Line(row, seed, epoch, images, *pair, *means)


def write(path: Path, lines: Iterable[Line]) -> None:
    """Write lines as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Line)])
        writer.writeheader()
        writer.writerows(asdict(line) for line in lines)


def print_heading() -> None:
    """Print the names of the columns of the table."""
    print("run                        epoch  images         cosine   negative   deep / shallow")


def paths_of(runs: Path, rows: Sequence[str]) -> list[Path]:
    """Return the checkpoints of all seeds of rows.

    Raises:
        DataError: A row has no checkpoint.
    """
    found = []
    for row in rows:
        found += (paths := sorted((runs / row).glob(f"seed*/{CHECKPOINT}")))
        if not paths:
            raise DataError(f"--rows: there is no {row}/seed*/{CHECKPOINT} in {runs}")
    return found


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
    option("--classes", type=int, default=0, help="classes to measure alone (default: %(default)s)")
    option("--out", type=Path, help=f"folder for {TABLE} (default: it is not written)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit status, 1 for a user's error."""
    arguments = build_parser().parse_args(argv)
    batches = Batches(arguments.data, arguments.batches, arguments.classes)
    print_heading()
    try:
        paths = paths_of(arguments.runs, arguments.rows)
        lines = [line for path in paths for line in lines_of(path, batches)]
        if arguments.out:
            write(arguments.out / TABLE, lines)
    except (TrainingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
