"""Networks and chains of them as points: milliseconds, flops and accuracy on held-out images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, permutations

import numpy as np
from numpy.typing import NDArray

from exporter.budgets import estimate_share, solve_budgets
from exporter.cascade.members import Stages
from exporter.stages.temperatures import logits_of, temperatures_for
from exporter.stages.times import measure_times
from offramp.bundle.values import Estimate, Price, SolvedFor
from training.evaluation.evaluate import Floats, Scored

MEMBERS = 2  # of a chain


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of the exits of a network.

    Attributes:
        stages: Cost of each stage with its head, [exits].
        heads: Cost of each head, [exits].
    """

    stages: Floats
    heads: Floats


@dataclass(frozen=True, slots=True)
class Measured:
    """A network with its answers to the held-out images, and its costs on this machine.

    Attributes:
        name: Its name.
        size: Height and width of the images that it reads.
        number: Its number among the networks, from 0.
        confidence: Largest probability of each exit, calibrated, float32 [exits, N].
        classes: Likeliest class of each exit, int64 [exits, N].
        flops: Multiply-adds.
        milliseconds: Compute time of one image with one thread.
    """

    name: str
    size: int
    number: int
    confidence: NDArray[np.float32]
    classes: NDArray[np.int64]
    flops: Cost
    milliseconds: Cost

    @property
    def exits(self) -> int:
        """Number of its exits."""
        return len(self.classes)


@dataclass(frozen=True, slots=True)
class Point:
    """Means of an image, and the accuracy on the held-out images."""

    milliseconds: float
    flops: float
    accuracy: Estimate

    def cost(self, price: Price) -> float:
        """Return the cost in flops or in milliseconds."""
        return self.flops if price == "flops" else self.milliseconds


@dataclass(frozen=True, slots=True)
class Chain:
    """Networks in the order in which they run, and points of their path from the cheapest on."""

    networks: tuple[Measured, ...]
    points: tuple[Point, ...]

    @property
    def name(self) -> str:
        """Names of its networks."""
        return " > ".join(each.name for each in self.networks)


def measure(made: Stages, name: str, number: int, targets: NDArray[np.int64]) -> Measured:
    """Calibrate a network on the held-out images, and measure its stages."""
    temperatures = temperatures_for(made.probabilities, targets)
    cooled = logits_of(made.probabilities) / np.array(temperatures, np.float32)[:, None, None]
    raised = np.exp(cooled - cooled.max(axis=2, keepdims=True))
    times = measure_times(made.graphs).stages
    trunks = np.array([stage.without_head[0] for stage in times])
    stages = np.array([stage.with_head[0] for stage in times])
    flops = np.array([graph.flops for graph in made.graphs], np.float64)
    heads = np.array([graph.head_flops for graph in made.graphs], np.float64)
    return Measured(
        name,
        made.size,
        number,
        1 / raised.sum(axis=2),  # the largest of them is 1
        made.probabilities.argmax(axis=2),
        Cost(flops, heads),
        Cost(stages, np.maximum(stages - trunks, 0)),
    )


def exits_alone(network: Measured, targets: NDArray[np.int64]) -> list[Point]:
    """Return the points of all images leaving at one exit, for each exit of a network."""
    flops, milliseconds = (
        scored.flops_evaluating(np.zeros(network.exits, np.bool_))
        for scored in _scored([network], targets)
    )
    right = (network.classes == targets).mean(axis=1)
    return [
        Point(float(ms), float(count), estimate_share(float(share), len(targets)))
        for ms, count, share in zip(milliseconds, flops, right, strict=True)
    ]


def chains(networks: Sequence[Measured]) -> Iterator[tuple[Measured, ...]]:
    """Yield each network with several exits, and each pair with the cheaper network first."""
    yield from ((each,) for each in networks if each.exits > 1)
    for small, large in permutations(networks, MEMBERS):
        if small.milliseconds.stages.sum() < large.milliseconds.stages.sum():
            yield small, large


def solve(
    networks: tuple[Measured, ...],
    targets: NDArray[np.int64],
    price: Price,
    solved_for: SolvedFor,
) -> Chain:
    """Solve the path of a chain, and return its points.

    Accuracies are cross-fitted, as those of a bundle.

    Args:
        networks: Networks in the order in which they run.
        targets: Labels of the held-out images, int64 [N].
        price: What going on costs along the path.
        solved_for: What the path loses least of.
    """
    flops, milliseconds = _scored(networks, targets)
    priced = replace(flops, prices=milliseconds.flops) if price == "ms" else flops
    classes = np.concatenate([each.classes for each in networks])
    _, curve = solve_budgets(priced, classes == classes[-1], solved_for)
    points = []
    for point in curve:
        evaluated = np.array(point.thresholds) <= 1
        shares = np.array([share.value for share in point.exit_shares])
        ms = float(milliseconds.flops_evaluating(evaluated) @ shares)
        points.append(Point(ms, point.mean_flops.value, point.accuracy))
    return Chain(networks, tuple(points))


def _scored(networks: Sequence[Measured], targets: NDArray[np.int64]) -> tuple[Scored, Scored]:
    """Return the answers of a chain, with costs in flops and in milliseconds."""
    confidence = np.concatenate([each.confidence for each in networks])
    right = np.concatenate([each.classes for each in networks]) == targets
    firsts = [0, *accumulate(each.exits for each in networks)][:-1]
    costs = ([each.flops for each in networks], [each.milliseconds for each in networks])
    flops, milliseconds = (
        Scored(
            confidence,
            right,
            np.cumsum(np.concatenate([each.stages for each in cost])),
            np.concatenate([each.heads for each in cost]),
            firsts,
        )
        for cost in costs
    )
    return flops, milliseconds
