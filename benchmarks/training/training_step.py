"""Measure the savings of surgery in a training step, in flops and time.

One table for each network has, for each variant and beta, the flops (multiply-adds for one image)
of the backward pass as a ratio to joint training, and the same ratio for forward and backward pass
together, in flops and in time. Every round times one step of each row and two steps of joint
training, in random order, and divides each by the mean of the two. The table has median and
quartiles. In the row of joint training they are of the ratio of its two steps, which shows the
noise. A row above MAX_RATIO is timed again in three times as many rounds, and the second figure
counts. Time is CPU time of this process, or wall time on a GPU.

The goals are for batches of 32 and more. Smaller batches save less. With one or two images a step
with surgery took up to an eighth longer than a step of joint training.

The last lines are the goals. The exit status is 1 if one is missed. Savings of flops are in
percent, rounded to a tenth (MSDNet, released: 7.368).

    python -m benchmarks.training.training_step --networks vgg-7 --rounds 9
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.goals import Goal, print_goals
from benchmarks.timing import (
    CLASSES,
    SIZE,
    Batch,
    Step,
    build_step,
    describe_conditions,
    positive_int,
    random_batch,
    stopwatch,
)
from training.errors import RecipeError
from training.networks.backbones import build_network
from training.networks.flops import flops_of_step
from training.objectives import build_objective
from training.surgery.boundary import Surgery, Variant

NETWORKS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "msdnet": ("msdnet", {}),
    "vgg-7": ("vgg", {}),
    "vgg-16": ("vgg", {"convolutions": (2, 2, 3, 3, 3)}),
    "resnet18": ("resnet18", {}),
    "vit": ("vit", {"image_size": SIZE, "patch": 4, "blocks": 6, "exits": 3}),
}
JOINT, RELEASED, PAPER = Surgery("joint"), Surgery("released", 0.5), Surgery("paper", 0.5)
# goals: percent of the backward pass's flops saved, and step time over joint training's
MIN_SAVINGS = (
    ("msdnet", RELEASED, 7.4),
    ("msdnet", PAPER, 10.0),
    ("vgg-7", PAPER, 24.9),
    ("vgg-16", PAPER, 24.9),
)
MAX_TIMES = (("msdnet", PAPER, 0.96), ("vgg-7", PAPER, 0.87))
MAX_RATIO = 1.02  # of step times, for all rows

Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table.

    Args:
        surgery: Variant and beta.
        backward: Flops of the backward pass over joint training's.
        step: Flops of forward and backward pass over joint training's.
        ratios: Step time over joint training's, [rounds].
    """

    surgery: Surgery
    backward: float
    step: float
    ratios: Seconds

    @property
    def median(self) -> float:
        """Return the median of the time ratios."""
        return float(np.median(self.ratios))

    def __str__(self) -> str:
        beta = "" if self.surgery == JOINT else f"{self.surgery.beta:.2f}"
        low, high = np.quantile(self.ratios, [0.25, 0.75])
        return (
            f"{self.surgery.variant:12}  {beta:4} {self.backward:10.4f} {self.step:9.4f}   "
            f"{self.median:.3f} [{low:.3f}, {high:.3f}]"
        )


Table = Mapping[Surgery, Row]


def surgeries(betas: Sequence[float]) -> list[Surgery]:
    """Return the variants and betas that are compared with joint training."""
    variants: tuple[Variant, ...] = ("released", "paper", "unreferenced")
    return [Surgery(v, b) for v in variants for b in sorted(set(betas))]


def step_ratios(
    timed: Step, rows: Sequence[Surgery], batch: Batch, rounds: int
) -> dict[Surgery, Seconds]:
    """Return the step time of each row over joint training's, [rounds], without the first round."""
    clock, order = stopwatch(batch.images.device), random.Random(0)
    turns = [(row, 0) for row in rows] + [(JOINT, 0), (JOINT, 1)]
    spent: dict[tuple[Surgery, int], list[float]] = {turn: [] for turn in turns}
    for _ in track(range(rounds + 1), "rounds", transient=True):
        for turn in order.sample(turns, len(turns)):
            timed.network.surgery = turn[0]
            start = clock()
            timed(batch)
            spent[turn].append(clock() - start)
    seconds = {turn: np.array(taken[1:]) for turn, taken in spent.items()}
    # the ratio of two equal steps is the row of joint training
    first, second = seconds[JOINT, 0], seconds[JOINT, 1]
    ratios = {row: seconds[row, 0] / ((first + second) / 2) for row in rows}
    return {JOINT: first / second, **ratios}


def measure(timed: Step, rows: Sequence[Surgery], batch: Batch, rounds: int) -> dict[Surgery, Row]:
    """Count the flops and time the steps of every row."""
    ratios = step_ratios(timed, rows, batch, rounds)
    slow = [row for row in rows if np.median(ratios[row]) > MAX_RATIO]
    if slow:
        repeated = step_ratios(timed, slow, batch, 3 * rounds)
        ratios |= {row: repeated[row] for row in slow}
    network = timed.network
    network.surgery = JOINT
    forward, joint = flops_of_step(network, SIZE)
    table = {}
    for row, measured in ratios.items():
        network.surgery = row
        _, backward = flops_of_step(network, SIZE)
        table[row] = Row(row, backward / joint, (forward + backward) / (forward + joint), measured)
    return table


def goals(tables: Mapping[str, Table]) -> Iterator[Goal]:
    """Yield the goals of the rows that are in the tables."""
    for name, surgery, percent in MIN_SAVINGS:
        if row := tables.get(name, {}).get(surgery):
            saved = round(100 * (1 - row.backward), 1)
            text = f"{name}, {surgery.variant} {surgery.beta}: backward flops saved >= {percent} %"
            yield Goal(text, f"{saved} %", saved >= percent)
    for name, surgery, limit in MAX_TIMES:
        if row := tables.get(name, {}).get(surgery):
            text = f"{name}, {surgery.variant} {surgery.beta}: step time / joint <= {limit}"
            yield Goal(text, f"{row.median:.3f}", row.median <= limit)
    rows = ((name, row) for name, table in tables.items() for row in table.values())
    name, worst = max(
        (pair for pair in rows if pair[1].surgery != JOINT), key=lambda p: p[1].median
    )
    figure = f"{worst.median:.3f} ({name}, {worst.surgery.variant} {worst.surgery.beta})"
    yield Goal(f"step time / joint nowhere above {MAX_RATIO}", figure, worst.median <= MAX_RATIO)


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description="Measure the savings of surgery in a training step.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option, networks, betas = parser.add_argument, list(NETWORKS), [0.25, 0.5, 0.75]
    option("--networks", choices=NETWORKS, nargs="+", default=networks, help="networks to measure")
    option("--betas", type=float, nargs="+", default=betas, help="shared fractions of channels")
    option("--batch", type=positive_int, default=32, help="images in a step")
    option("--rounds", type=positive_int, default=9, help="timed rounds")
    option("--threads", type=positive_int, default=1, help="threads of torch")
    option("--device", default="cpu", help="device of torch")
    return parser


def joint_step(name: str, device: torch.device) -> Step:
    """Return a step of joint training on a network of NETWORKS with fresh weights."""
    torch.manual_seed(0)
    network = build_network(*NETWORKS[name], CLASSES)
    return build_step(network, build_objective("joint", {}, network, 0.0), device)


def main() -> int:
    """Run the benchmark and return the exit status, 1 if a goal is missed."""
    parser = build_parser()
    arguments = parser.parse_args()
    try:
        rows = surgeries(arguments.betas)
    except RecipeError as error:
        parser.error(str(error))
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(describe_conditions(arguments.batch, arguments.rounds, device))
    tables: dict[str, Table] = {}
    for name in arguments.networks:
        batch = random_batch(arguments.batch, device)
        tables[name] = measure(joint_step(name, device), rows, batch, arguments.rounds)
        print(f"\n{name}\n                    backward      step   step time / joint")
        print("variant       beta    flops     flops    median [quartiles]")
        print(*tables[name].values(), sep="\n", flush=True)
    print()
    return print_goals(goals(tables))


if __name__ == "__main__":
    sys.exit(main())
