"""The command `offramp design`, after its options are read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from exporter.cascade.network_options import read_members
from exporter.cascade.run import Goal, Networks, Output, make_cascade, run_networks
from exporter.design.chains import Chain, Measured, Point, chains, exits_alone, measure, solve
from exporter.design.choice import Alone, Proposal, best_at, cheapest_within
from exporter.design.options import DesignOptions
from exporter.design.plot import design_figure
from exporter.output_folder import data_name
from exporter.report import save_figure
from exporter.stages.times import RUNS, machine
from offramp.bundle.values import Confidence, Price
from offramp.writing import writing

CONFIDENCE: Confidence = "max_softmax"
SELECTED = (
    "note: the chain was chosen on these images, so its accuracy looks somewhat better than it "
    "is. Measure it on others with offramp evaluate"
)


def design(options: DesignOptions) -> None:
    """Measure networks and chains, print a table, draw a plot, and make the proposed bundle.

    Raises:
        ExportError: A network, the images or an option cannot be used.
        VerificationError: A stage gives other answers than the file of its network.
        OSError: A file cannot be read or written.
    """
    output = Output()
    members = read_members(options.networks, options)
    networks = run_networks(options, members, CONFIDENCE, output)
    targets = networks.images.targets
    found = _measured(networks, options.networks, output)
    alone = [
        Alone(network, number, point)
        for network in found
        for number, point in enumerate(exits_alone(network, targets), 1)
    ]
    solved = [solve(each, targets, options.price, options.solve_for) for each in chains(found)]
    proposal = _proposal(options, alone, solved)
    for line in _table(alone, solved, proposal, options.price):
        output.log(line)
    title = f"{options.dataset or data_name(options.data)}, {len(targets):,} held-out images"
    with writing(options.plot):
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        save_figure(options.plot, design_figure(alone, solved, proposal, title))
    output.log(f"plot: {options.plot}")
    if options.out is not None:
        chosen = [members[each.number] for each in proposal.networks]
        goal = Goal(options.out, CONFIDENCE, options.price)
        make_cascade(options, chosen, goal, output, among=networks)


def _measured(networks: Networks, paths: Sequence[Path], output: Output) -> list[Measured]:
    """Measure each network, one after the other."""
    output.log(f"timing on {machine()}: one thread, one image, median of {RUNS} runs")
    targets = networks.images.targets
    pairs = zip(networks.made, _names(paths), strict=True)
    return [measure(made, name, k, targets) for k, (made, name) in enumerate(pairs)]


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the last part of each path, or the whole path where several end alike."""
    last = [path.resolve().name for path in paths]
    counts = Counter(last)
    pairs = zip(paths, last, strict=True)
    return [name if counts[name] == 1 else str(path) for path, name in pairs]


def _proposal(options: DesignOptions, alone: Sequence[Alone], found: Sequence[Chain]) -> Proposal:
    if options.at is not None:
        return best_at(alone, found, options.at)
    assert options.within is not None
    return cheapest_within(alone, found, options.within, options.price)


def _table(
    alone: Sequence[Alone], found: Sequence[Chain], proposal: Proposal, price: Price
) -> Iterator[str]:
    names = [*(each.name for each in alone), *(each.name for each in found)]
    width = max(map(len, names))
    yield f"{'one network, one exit':{width}}  pixels       ms   M flops   accuracy, %"
    for each in alone:
        yield f"{each.name:{width}}  {each.network.size:6}  {_row(each.point)}"
    accuracy = proposal.point.accuracy.value
    if found:
        yield f"{f'chain, at {accuracy:.2%} or more':{width}}  {'':6}       ms   M flops"
    for chain in found:
        good = [point for point in chain.points if point.accuracy.value >= accuracy]
        reached = min(good, key=lambda point: point.cost(price), default=None)
        row = f"{'not reached':>17}" if reached is None else _row(reached)
        yield f"{chain.name:{width}}  {'':6}  {row}"
    yield from _proposed(proposal)


def _row(point: Point) -> str:
    accuracy = point.accuracy
    interval = f"[{100 * accuracy.low:.1f}, {100 * accuracy.high:.1f}]"
    flops = point.flops / 1e6
    return f"{point.milliseconds:7.2f} {flops:9.1f}      {100 * accuracy.value:6.2f} {interval}"


def _proposed(proposal: Proposal) -> Iterator[str]:
    point, best = proposal.point, proposal.best.point
    yield (
        f"proposed: {proposal.name}, {point.milliseconds:.2f} ms and {point.flops / 1e6:.1f} M "
        f"flops, right on {point.accuracy.value:.2%}"
    )
    yield (
        f"  {point.milliseconds / best.milliseconds:.0%} of the milliseconds and "
        f"{point.flops / best.flops:.0%} of the flops of {proposal.best.name}, the best network "
        f"({best.accuracy.value:.2%})"
    )
    yield f"  served: budget={math.ceil(point.flops / 1e4) / 100:.2f}M"
    yield SELECTED
