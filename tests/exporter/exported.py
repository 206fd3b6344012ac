"""A small network, exported once for all tests of the exporter."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import pytest
import torch

from exporter.bundle import Export
from exporter.network.export import export_network
from exporter.network.stage_modules import StageModule, split
from exporter.stages.graph import StageGraph, cut_by_need
from tests.training.samples import LABELS, TINY, tiny_dataset, tiny_progress
from training.data.images import Images
from training.fit.checkpoint import Checkpoint, new_network
from training.networks.confidence import CONFIDENCES

# as many exits as scales: the last stage has the coarsest scale alone and no unused layer
SHAPE: dict[str, object] = {
    "exits": 3,
    "base": 1,
    "step": 1,
    "channels": 4,
    "growth": 4,
    "head_channels": 16,
}
# fewer layers: most of an export's time is that of their operators
SMALLER: dict[str, object] = {"backbone": "vgg", "shape": {"convolutions": (1, 1), "channels": 8}}


@dataclass(frozen=True)
class Exported:
    """What `export_network` returned, and the graphs of whole blocks that it verified before."""

    export: Export
    blocks: list[StageGraph]


@cache
def held_out() -> Images:
    """Return 100 real images."""
    return tiny_dataset().held_out


@cache
def checkpoint(variant: str = TINY.variant, smaller: bool = False) -> Checkpoint:
    """Return fresh weights, with batch-norm statistics and normalisation as after training."""
    progress = tiny_progress(variant=variant, **(SMALLER if smaller else {"shape": SHAPE}))
    torch.manual_seed(0)
    network = new_network(progress.recipe, len(LABELS))
    network.normalize.mean.fill_(0.45)
    network.normalize.std.fill_(0.25)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(network.normalize(held_out().pixels))
    return Checkpoint(progress, network.state_dict(), {}, {})


def export(variant: str = TINY.variant, smaller: bool = False) -> Export:
    """Return the checkpoint, exported and calibrated once for each variant."""
    return _exported(variant, smaller).export


@cache
def _exported(variant: str, smaller: bool) -> Exported:
    blocks: list[StageGraph] = []

    def keep_and_cut(graphs: Sequence[StageGraph]) -> list[StageGraph]:
        blocks.extend(graphs)
        return cut_by_need(graphs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.network.export.cut_by_need", keep_and_cut)
        subject = checkpoint(variant, smaller)
        found = export_network(subject, held_out(), "max_softmax", log=lambda _: None)
    return Exported(found, blocks)


def modules() -> list[StageModule]:
    """Return the stages in torch, with the temperatures of the export."""
    stages = split(checkpoint().network(), CONFIDENCES["max_softmax"])
    for module, temperature in zip(stages, export().temperatures, strict=True):
        module.temperature.fill_(temperature)
    return stages


def blocks() -> list[StageGraph]:
    """Return the graphs of the stages, before they are cut by need."""
    return _exported(TINY.variant, False).blocks
