"""What does surgery save of a training step?

One table for each network: for each variant and beta the backward pass's flops (multiply-adds
for one image) as torch counts them, their ratio to joint training's, and the same ratio for
forward and backward pass together, first in flops, then in time. Every round times one step of
each row, and two of joint training, in random order, and divides each by the mean of the two;
printed are the median and the quartiles, and in joint training's row those of its two steps'
ratio, which show the noise. A row above LONGEST is timed again in three times as many rounds,
and the second figure counts. Time is CPU time of this process, or wall time on a GPU.

The goals are for batches of 32 and more. Smaller ones save less, and on one or two images a
step with surgery took up to an eighth longer than joint training's.

The last lines say which goals are met: exit status 1 if any is not. Savings of flops are in
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
    conditions,
    noise,
    positive_int,
    step,
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
# percent of the backward pass's flops, and step time over joint training's
SAVED = (
    ("msdnet", RELEASED, 7.4),
    ("msdnet", PAPER, 10.0),
    ("vgg-7", PAPER, 24.9),
    ("vgg-16", PAPER, 24.9),
)
TIMES = (("msdnet", PAPER, 0.96), ("vgg-7", PAPER, 0.87))
LONGEST = 1.02

Seconds = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table.

    Args:
        surgery: what is timed.
        backward: flops of its backward pass, of joint training's.
        step: the same of forward and backward pass.
        ratios: [rounds], step time of joint training's.
    """

    surgery: Surgery
    backward: float
    step: float
    ratios: Seconds

    @property
    def median(self) -> float:
        """Of the ratios."""
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
    """What is compared with joint training."""
    variants: tuple[Variant, ...] = ("released", "paper", "unreferenced")
    return [Surgery(v, b) for v in variants for b in sorted(set(betas))]


def step_ratios(
    timed: Step, rows: Sequence[Surgery], batch: Batch, rounds: int
) -> dict[Surgery, Seconds]:
    """Step time over joint training's of each row in each round, but the first."""
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
    # its own row: how far two equal steps differ
    one, other = seconds[JOINT, 0], seconds[JOINT, 1]
    ratios = {row: seconds[row, 0] / ((one + other) / 2) for row in rows}
    return {JOINT: one / other, **ratios}


def measure(timed: Step, rows: Sequence[Surgery], batch: Batch, rounds: int) -> dict[Surgery, Row]:
    """Count and time every row."""
    ratios = step_ratios(timed, rows, batch, rounds)
    long = [row for row in rows if np.median(ratios[row]) > LONGEST]
    if long:
        again = step_ratios(timed, long, batch, 3 * rounds)
        ratios |= {row: again[row] for row in long}
    network = timed.network
    network.surgery = JOINT
    forward, joint = flops_of_step(network, SIZE)
    table = {}
    for row, found in ratios.items():
        network.surgery = row
        _, backward = flops_of_step(network, SIZE)
        table[row] = Row(row, backward / joint, (forward + backward) / (forward + joint), found)
    return table


def goals(tables: Mapping[str, Table]) -> Iterator[Goal]:
    """All that the tables have the rows for."""
    for name, surgery, percent in SAVED:
        if row := tables.get(name, {}).get(surgery):
            saved = round(100 * (1 - row.backward), 1)
            text = f"{name}, {surgery.variant} {surgery.beta}: backward flops saved >= {percent} %"
            yield Goal(text, f"{saved} %", saved >= percent)
    for name, surgery, most in TIMES:
        if row := tables.get(name, {}).get(surgery):
            text = f"{name}, {surgery.variant} {surgery.beta}: step time / joint <= {most}"
            yield Goal(text, f"{row.median:.3f}", row.median <= most)
    rows = ((name, row) for name, table in tables.items() for row in table.values())
    name, worst = max(
        (pair for pair in rows if pair[1].surgery != JOINT), key=lambda p: p[1].median
    )
    which = f"{worst.median:.3f} ({name}, {worst.surgery.variant} {worst.surgery.beta})"
    yield Goal(f"step time / joint nowhere above {LONGEST}", which, worst.median <= LONGEST)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="What does surgery save of a training step?")
    made.add_argument("--networks", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    made.add_argument("--betas", type=float, nargs="+", default=[0.25, 0.5, 0.75])
    made.add_argument("--batch", type=positive_int, default=32, help="images in a step")
    made.add_argument("--rounds", type=positive_int, default=9)
    made.add_argument("--threads", type=positive_int, default=1, help="that torch computes with")
    made.add_argument("--device", default="cpu")
    return made


def example(name: str, device: torch.device) -> Step:
    """The step of a network of NETWORKS with fresh weights."""
    torch.manual_seed(0)
    network = build_network(*NETWORKS[name], CLASSES)
    return step(network, build_objective("joint", {}, network, 0.0), device)


def main() -> int:
    """Entry point; the exit status is 1 where a goal is missed."""
    arguments = parser().parse_args()
    try:
        rows = surgeries(arguments.betas)
    except RecipeError as error:
        parser().error(str(error))
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    print(conditions(arguments.batch, arguments.rounds, device))
    tables: dict[str, Table] = {}
    for name in arguments.networks:
        batch = noise(arguments.batch, device)
        tables[name] = measure(example(name, device), rows, batch, arguments.rounds)
        print(f"\n{name}\n                    backward      step   step time / joint")
        print("variant       beta    flops     flops    median [quartiles]")
        print(*tables[name].values(), sep="\n", flush=True)
    print()
    return print_goals(goals(tables))


if __name__ == "__main__":
    sys.exit(main())
