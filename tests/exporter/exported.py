"""A small network, exported once for all tests of the exporter."""

from functools import cache

import torch

from exporter.bundle import Export, export_network
from exporter.graph import StageGraph, export_stages, set_temperature
from exporter.stage_modules import StageModule, split
from tests.training.samples import LABELS, TINY, tiny_dataset, tiny_progress
from training.data.images import Images
from training.fit.checkpoint import Checkpoint, new_network
from training.networks.confidence import CONFIDENCES

# as many exits as scales: the last stage has the coarsest scale alone and no unused layer
SHAPE = {"exits": 3, "base": 1, "step": 1, "channels": 4, "growth": 4, "head_channels": 16}


@cache
def held_out() -> Images:
    """Return 100 real images."""
    return tiny_dataset().held_out


@cache
def checkpoint(variant: str = TINY.variant) -> Checkpoint:
    """Return fresh weights, with batch-norm statistics and normalisation as after training."""
    progress = tiny_progress(shape=SHAPE, variant=variant)
    torch.manual_seed(0)
    network = new_network(progress.recipe, len(LABELS))
    network.normalize.mean.fill_(0.45)
    network.normalize.std.fill_(0.25)
    network.train()
    with torch.no_grad():
        for _ in range(20):
            network(network.normalize(held_out().pixels))
    return Checkpoint(progress, network.state_dict(), {}, {})


def export(variant: str = TINY.variant) -> Export:
    """Return the checkpoint, exported and calibrated once for each variant."""
    return _export(variant)


@cache
def _export(variant: str) -> Export:
    return export_network(checkpoint(variant), held_out(), "max_softmax", log=lambda _: None)


def modules() -> list[StageModule]:
    """Return the stages in torch, with the temperatures of the export."""
    stages = split(checkpoint().network(), CONFIDENCES["max_softmax"])
    for module, temperature in zip(stages, export().temperatures, strict=True):
        module.temperature.fill_(temperature)
    return stages


@cache
def blocks() -> list[StageGraph]:
    """Return the graphs of the stages, before they are cut by need."""
    graphs = export_stages(modules(), 32)
    for block, temperature in zip(graphs, export().temperatures, strict=True):
        set_temperature(block.model, temperature)
    return graphs
