"""What does cutting a network into stages cost, and what does each exit cost?

For each network (fresh weights; the time does not depend on them) and batch size, the CPU time
of all its stages over that of one graph with all exits: cut block by block, cut where each exit
needs it (as in a bundle), and the latter in this machine's own layout (as it is served on a CPU).
Then what it costs to leave at each exit: flops and time block by block, with all heads on the way;
by need, with all of them; and by need when no other exit is asked.

    python -m benchmarks.engine.cut

Rounds are interleaved; ratios are taken within a round and their median is shown. Exit status 1
where the stages as they are served take more than GOAL of one graph.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from benchmarks.goals import Goal, print_goals
from benchmarks.timing import positive
from exporter.graph import IMAGE, StageGraph, cut_by_need, export_stages
from exporter.stage_modules import split
from offramp.bundle.graphs import exit_outputs, join, without_head
from offramp.bundle.manifest import TensorSpec
from serving.runtime.native_layout import optimize_stages
from serving.runtime.session import open_session, providers_of
from serving.runtime.stage import Loaded, Stage
from training.networks.backbones import build_network
from training.networks.confidence import CONFIDENCES
from training.recipes import RECIPES

GOAL = 1.05
BATCHES = (1, 4, 16)
CLASSES = {"cifar-compact": 10, "cifar-paper": 100}
BLOCKS, BY_NEED, NATIVE = "block by block", "by need", "by need, native layout"
SERVED = NATIVE
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Network:
    """One network, cut in every way; `whole` is one graph with all exits."""

    name: str
    blocks: Sequence[StageGraph]
    by_need: Sequence[StageGraph]
    whole: ort.InferenceSession
    chains: Mapping[str, Sequence[Stage]]


def network(name: str) -> Network:
    """The network of a recipe."""
    recipe = RECIPES[name]
    torch.manual_seed(0)
    made = build_network(recipe.backbone, recipe.shape, CLASSES[name]).eval()
    blocks = export_stages(split(made, CONFIDENCES["max_softmax"]), recipe.size)
    by_need = cut_by_need(blocks)
    whole = _session(join([block.model for block in blocks]).SerializeToString())
    chains: dict[str, Sequence[Stage]] = {BLOCKS: [_stage(g) for g in blocks]}
    chains[BY_NEED] = [_stage(g) for g in by_need]
    pairs = zip(chains[BY_NEED], by_need, strict=True)
    chains[NATIVE] = optimize_stages([Loaded(stage, graph.model) for stage, graph in pairs]).each
    return Network(name, blocks, by_need, whole, chains)


def _session(graph: bytes) -> ort.InferenceSession:
    return open_session(Path(), graph, providers_of("cpu", 0))


def _stage(graph: StageGraph) -> Stage:
    names = [spec.name for spec in graph.features]
    trunk = _session(without_head(graph.model, names).SerializeToString()) if names else None
    return Stage(_session(graph.serialized()), trunk, graph.inputs, graph.features)


@dataclass(frozen=True, slots=True)
class Times:
    """CPU seconds of a batch.

    By chain, of all stages [rounds] and, with clocks read in between, of each [rounds, stages];
    `trunks` are those of the stages as they are served, run without their heads.
    """

    whole: Floats
    chains: Mapping[str, Floats]
    stages: Mapping[str, Floats]
    trunks: Floats

    def ratio(self, chain: str) -> float:
        """Of all stages of a chain over one graph."""
        return float(np.median(self.chains[chain] / self.whole))

    def to_exit(self, chain: str) -> Floats:
        """To each exit with all heads on the way, [exits]."""
        seconds: Floats = np.median(self.stages[chain].cumsum(axis=1), axis=0)
        return seconds

    def alone(self) -> Floats:
        """To each exit as served when no other is asked, [exits]."""
        before = self.trunks.cumsum(axis=1) - self.trunks
        seconds: Floats = np.median(before + self.stages[SERVED], axis=0)
        return seconds


def measure(subject: Network, batch: int, rounds: int) -> Times:
    """Time one batch size on noise."""
    (image,) = subject.by_need[0].inputs
    noise = np.random.default_rng(0).integers(0, 256, (batch, *image.shape), dtype=np.uint8)
    outputs = [name for each in exit_outputs(len(subject.blocks)) for name in each]
    repeats = max(1, 32 // batch)
    whole, trunks = [], []
    chains: dict[str, list[float]] = {chain: [] for chain in subject.chains}
    stages: dict[str, list[Floats]] = {chain: [] for chain in subject.chains}
    for _ in range(rounds + 1):  # the first one warms up
        whole.append(_seconds(lambda: subject.whole.run(outputs, {IMAGE: noise}), repeats))
        for chain, each in subject.chains.items():
            chains[chain].append(_seconds(partial(run_chain, each, noise), repeats))
            stages[chain].append(_by_stage(each, noise, repeats, heads=True))
        trunks.append(_by_stage(subject.chains[SERVED], noise, repeats, heads=False))
    return Times(
        np.array(whole[1:]),
        {chain: np.array(found[1:]) for chain, found in chains.items()},
        {chain: np.array(found[1:]) for chain, found in stages.items()},
        np.array(trunks[1:]),
    )


def run_chain(stages: Sequence[Stage], images: NDArray[np.uint8]) -> None:
    """All stages in a row."""
    known: dict[str, NDArray[np.generic]] = {IMAGE: images}
    for stage in stages:
        known |= stage.run(known, head=True).features


def _seconds(run: Callable[[], object], repeats: int) -> float:
    started = time.process_time()
    for _ in range(repeats):
        run()
    return (time.process_time() - started) / repeats


def _by_stage(
    stages: Sequence[Stage], images: NDArray[np.uint8], repeats: int, *, heads: bool
) -> Floats:
    """Seconds of each stage; without heads, of each but the last."""
    seconds = np.zeros(len(stages))
    for _ in range(repeats):
        known: dict[str, NDArray[np.generic]] = {IMAGE: images}
        for k, stage in enumerate(stages):
            started = time.process_time()
            output = stage.run(known, head=heads or k == len(stages) - 1)
            seconds[k] += time.process_time() - started
            known |= output.features
    return seconds / repeats


def megabytes(specs: Sequence[TensorSpec]) -> float:
    """Of one image's features."""
    return sum(spec.nbytes for spec in specs) / 2**20


def print_exits(subject: Network, times: Times) -> None:
    """One line for each exit."""
    blockwise = list(accumulate(graph.flops for graph in subject.blocks))
    by_need = list(accumulate(graph.flops for graph in subject.by_need))
    heads = list(accumulate((g.head_flops for g in subject.by_need), initial=0))
    columns = (times.to_exit(BLOCKS), times.to_exit(SERVED), times.alone())
    print("       block by block      by need           no other asked    handed on, MB")
    print("exit   M flops      ms     M flops      ms     M flops      ms    blocks by need")
    for k, (block, stage) in enumerate(zip(subject.blocks, subject.by_need, strict=True)):
        flops = (blockwise[k], by_need[k], by_need[k] - heads[k])
        pairs = zip(flops, columns, strict=True)
        cells = "   ".join(f"{f / 1e6:9.2f} {1e3 * seconds[k]:7.2f}" for f, seconds in pairs)
        sizes = f"{megabytes(block.features):9.2f} {megabytes(stage.features):7.2f}"
        print(f"{k + 1:4} {cells} {sizes}")


def goals(tables: Mapping[str, Mapping[int, Times]]) -> list[Goal]:
    """One for each network: the worst of its batch sizes."""
    found = []
    for name, times in tables.items():
        worst = max(each.ratio(SERVED) for each in times.values())
        text = f"{name}: stages as served / one graph <= {GOAL}"
        found.append(Goal(text, f"{worst:.3f}", worst <= GOAL))
    return found


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description="What does cutting a network into stages cost?")
    made.add_argument("--networks", choices=CLASSES, nargs="+", default=list(CLASSES))
    made.add_argument("--batches", type=positive, nargs="+", default=list(BATCHES))
    made.add_argument("--rounds", type=positive, default=9)
    return made


def main() -> int:
    """Entry point; the exit status is 1 where a goal is missed."""
    arguments = parser().parse_args()
    print(
        f"medians of {arguments.rounds} rounds, CPU time, one thread; {platform.machine()}, "
        f"ONNX Runtime {ort.__version__}"
    )
    tables: dict[str, dict[int, Times]] = {}
    for name in arguments.networks:
        subject = network(name)
        tables[name] = {b: measure(subject, b, arguments.rounds) for b in arguments.batches}
        print(f"\n{name}: all stages / one graph with all exits")
        for batch, times in tables[name].items():
            ratios = "   ".join(f"{chain} {times.ratio(chain):.3f}" for chain in subject.chains)
            print(f"batch {batch:3}   {1e3 * np.median(times.whole):8.2f} ms   {ratios}")
        for batch, times in tables[name].items():
            print(f"\n{name}: to leave at each exit, batch {batch}")
            print_exits(subject, times)
    print()
    return print_goals(goals(tables))


if __name__ == "__main__":
    sys.exit(main())
