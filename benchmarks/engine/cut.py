"""Measure the cost of cutting a network into stages, and the cost of each exit.

For each network and batch size, the first table has the CPU time of all stages over that of one
graph with all exits. The stages are cut block by block, or by need (as in a bundle), or by need in
this machine's native layout (as served on a CPU). Weights are fresh because the time does not
depend on them. The second table has flops and time to each exit: block by block with all earlier
heads, by need with all earlier heads, and by need with earlier heads skipped.

    python -m benchmarks.engine.cut

Rounds are interleaved. Ratios are taken within a round and their median is printed. The exit
status is 1 if the stages as served take more than MAX_RATIO of one graph.
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
from benchmarks.timing import positive_int
from exporter.network.stage_graphs import export_stages
from exporter.network.stage_modules import split
from exporter.stages.graph import IMAGE, StageGraph, cut_by_need
from offramp.bundle.graphs import exit_outputs, join, without_head
from offramp.bundle.manifest import TensorSpec
from serving.runtime.native_layout import optimize_stages
from serving.runtime.session import open_session, providers_of
from serving.runtime.stage import Loaded, Stage
from training.networks.backbones import build_network
from training.networks.confidence import CONFIDENCES
from training.recipes import RECIPES

MAX_RATIO = 1.05
BATCHES = (1, 4, 16)
CLASSES = {"cifar-compact": 10, "cifar-paper": 100}
BLOCKS, BY_NEED, NATIVE = "block by block", "by need", "by need, native layout"
SERVED = NATIVE
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Network:
    """A network cut in several ways.

    Attributes:
        blocks: Stages that are whole blocks.
        by_need: Stages cut by need.
        whole: Session of one graph with all exits.
        chains: Stages to run, by name of the cut.
    """

    name: str
    blocks: Sequence[StageGraph]
    by_need: Sequence[StageGraph]
    whole: ort.InferenceSession
    chains: Mapping[str, Sequence[Stage]]


def build_subject(name: str) -> Network:
    """Export the network of a recipe and cut it in every way."""
    recipe = RECIPES[name]
    torch.manual_seed(0)
    network = build_network(recipe.backbone, recipe.shape, CLASSES[name]).eval()
    blocks = export_stages(split(network, CONFIDENCES["max_softmax"]), recipe.size)
    by_need = cut_by_need(blocks)
    whole = _session(join([block.model for block in blocks]).SerializeToString())
    chains: dict[str, Sequence[Stage]] = {BLOCKS: [_stage(g) for g in blocks]}
    chains[BY_NEED] = [_stage(g) for g in by_need]
    pairs = zip(chains[BY_NEED], by_need, strict=True)
    loaded = [Loaded(stage, graph.model, Path()) for stage, graph in pairs]
    chains[NATIVE] = optimize_stages(loaded)[0].each
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

    Attributes:
        whole: One graph with all exits, [rounds].
        chains: All stages of each chain, [rounds].
        stages: Each stage of each chain, [rounds, stages]. The clock is read between stages.
        trunks: The stages as served without their heads, [rounds, stages].
    """

    whole: Floats
    chains: Mapping[str, Floats]
    stages: Mapping[str, Floats]
    trunks: Floats

    def ratio(self, chain: str) -> float:
        """Return the median ratio of all stages of a chain to one graph."""
        return float(np.median(self.chains[chain] / self.whole))

    def to_exit(self, chain: str) -> Floats:
        """Return the seconds to each exit with all earlier heads, [exits]."""
        seconds: Floats = np.median(self.stages[chain].cumsum(axis=1), axis=0)
        return seconds

    def to_exit_without_heads(self) -> Floats:
        """Return the seconds to each exit as served with earlier heads skipped, [exits]."""
        before = self.trunks.cumsum(axis=1) - self.trunks
        seconds: Floats = np.median(before + self.stages[SERVED], axis=0)
        return seconds


def measure(subject: Network, batch: int, rounds: int) -> Times:
    """Time one batch size on random images."""
    (image,) = subject.by_need[0].inputs
    images = np.random.default_rng(0).integers(0, 256, (batch, *image.shape), dtype=np.uint8)
    outputs = [name for each in exit_outputs(len(subject.blocks)) for name in each]
    repeats = max(1, 32 // batch)
    whole, trunks = [], []
    chains: dict[str, list[float]] = {chain: [] for chain in subject.chains}
    stages: dict[str, list[Floats]] = {chain: [] for chain in subject.chains}
    for _ in range(rounds + 1):  # the first one warms up
        whole.append(_seconds(lambda: subject.whole.run(outputs, {IMAGE: images}), repeats))
        for chain, each in subject.chains.items():
            chains[chain].append(_seconds(partial(run_chain, each, images), repeats))
            stages[chain].append(_by_stage(each, images, repeats, heads=True))
        trunks.append(_by_stage(subject.chains[SERVED], images, repeats, heads=False))
    return Times(
        np.array(whole[1:]),
        {chain: np.array(found[1:]) for chain, found in chains.items()},
        {chain: np.array(found[1:]) for chain, found in stages.items()},
        np.array(trunks[1:]),
    )


def run_chain(stages: Sequence[Stage], images: NDArray[np.uint8]) -> None:
    """Run all stages in order."""
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
    """Time each stage, in seconds. Without `heads`, only the last stage evaluates its head."""
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
    """Return the size of one image's features in MiB."""
    return sum(spec.nbytes for spec in specs) / 2**20


def print_exits(subject: Network, times: Times) -> None:
    """Print one line for each exit."""
    blockwise = list(accumulate(graph.flops for graph in subject.blocks))
    by_need = list(accumulate(graph.flops for graph in subject.by_need))
    heads = list(accumulate((g.head_flops for g in subject.by_need), initial=0))
    columns = (times.to_exit(BLOCKS), times.to_exit(SERVED), times.to_exit_without_heads())
    print("       block by block      by need           heads skipped     features, MB")
    print("exit   M flops      ms     M flops      ms     M flops      ms    blocks by need")
    for k, (block, stage) in enumerate(zip(subject.blocks, subject.by_need, strict=True)):
        flops = (blockwise[k], by_need[k], by_need[k] - heads[k])
        pairs = zip(flops, columns, strict=True)
        cells = "   ".join(f"{f / 1e6:9.2f} {1e3 * seconds[k]:7.2f}" for f, seconds in pairs)
        sizes = f"{megabytes(block.features):9.2f} {megabytes(stage.features):7.2f}"
        print(f"{k + 1:4} {cells} {sizes}")


def goals(tables: Mapping[str, Mapping[int, Times]]) -> list[Goal]:
    """Return one goal for each network, on the worst of its batch sizes."""
    listed = []
    for name, times in tables.items():
        worst = max(each.ratio(SERVED) for each in times.values())
        text = f"{name}: stages as served / one graph <= {MAX_RATIO}"
        listed.append(Goal(text, f"{worst:.3f}", worst <= MAX_RATIO))
    return listed


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(
        description="Measure the cost of cutting a network into stages.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--networks", choices=CLASSES, nargs="+", default=list(CLASSES), help="recipes to cut")
    option("--batches", type=positive_int, nargs="+", default=list(BATCHES), help="batch sizes")
    option("--rounds", type=positive_int, default=9, help="timed rounds")
    return parser


def main() -> int:
    """Run the benchmark and return the exit status, 1 if a goal is missed."""
    arguments = build_parser().parse_args()
    print(
        f"medians of {arguments.rounds} rounds, CPU time, one thread; {platform.machine()}, "
        f"ONNX Runtime {ort.__version__}"
    )
    tables: dict[str, dict[int, Times]] = {}
    for name in arguments.networks:
        subject = build_subject(name)
        tables[name] = {b: measure(subject, b, arguments.rounds) for b in arguments.batches}
        print(f"\n{name}: all stages / one graph with all exits")
        for batch, times in tables[name].items():
            ratios = "   ".join(f"{chain} {times.ratio(chain):.3f}" for chain in subject.chains)
            print(f"batch {batch:3}   {1e3 * np.median(times.whole):8.2f} ms   {ratios}")
        for batch, times in tables[name].items():
            print(f"\n{name}: cost to each exit, batch {batch}")
            print_exits(subject, times)
    print()
    return print_goals(goals(tables))


if __name__ == "__main__":
    sys.exit(main())
