"""The proposed chain: the cheapest near the best network, or the most accurate within a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.design.chains import Chain, Measured, Point
from exporter.errors import ExportError
from offramp.bundle.values import Price


@dataclass(frozen=True, slots=True)
class Alone:
    """A network with all images leaving at one exit.

    Attributes:
        network: The network.
        exit: Number of the exit, from 1.
        point: Its cost and accuracy.
    """

    network: Measured
    exit: int
    point: Point

    @property
    def name(self) -> str:
        """Name of the network, and its exit where it has several."""
        several = self.network.exits > 1
        return f"{self.network.name} exit {self.exit}" if several else self.network.name


@dataclass(frozen=True, slots=True)
class Proposal:
    """A point of a chain, or of a network alone, and the network that it is compared with.

    Attributes:
        networks: Networks in the order in which they run.
        name: Their names.
        point: Cost and accuracy.
        best: The most accurate network.
    """

    networks: tuple[Measured, ...]
    name: str
    point: Point
    best: Alone


def best_of(alone: Sequence[Alone]) -> Alone:
    """Return the most accurate network at full depth, the cheapest of several."""
    return max(_deep(alone), key=lambda e: (e.point.accuracy.value, -e.point.milliseconds))


def _deep(alone: Sequence[Alone]) -> list[Alone]:
    """Return the networks at full depth. No budget lets every image leave at another exit."""
    return [each for each in alone if each.exit == each.network.exits]


def cheapest_within(
    alone: Sequence[Alone], found: Sequence[Chain], points: float, price: Price
) -> Proposal:
    """Return the cheapest point that is right on at most so many percent of images less.

    Args:
        alone: Networks, with all images leaving at one exit.
        found: Chains.
        points: Percent of the images, compared with the most accurate network.
        price: Cost to compare by.
    """
    best = best_of(alone)
    least = best.point.accuracy.value - points / 100
    good = [each for each in _all(alone, found, best) if each.point.accuracy.value >= least]
    return min(good, key=lambda each: each.point.cost(price))


def best_at(alone: Sequence[Alone], found: Sequence[Chain], milliseconds: float) -> Proposal:
    """Return the most accurate point that takes at most so many milliseconds in the mean.

    Raises:
        ExportError: There is none.
    """
    every = _all(alone, found, best_of(alone))
    affordable = [each for each in every if each.point.milliseconds <= milliseconds]
    if not affordable:
        least = min(each.point.milliseconds for each in every)
        raise ExportError(
            f"--at: the cheapest network takes {least:.3g} ms on this machine, more than "
            f"{milliseconds:g} ms"
        )
    return max(affordable, key=lambda e: (e.point.accuracy.value, -e.point.milliseconds))


def _all(alone: Sequence[Alone], found: Sequence[Chain], best: Alone) -> list[Proposal]:
    single = [Proposal((e.network,), e.network.name, e.point, best) for e in _deep(alone)]
    chained = [Proposal(c.networks, c.name, point, best) for c in found for point in c.points]
    return [*single, *chained]
