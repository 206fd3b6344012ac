"""Graphs of stages whose networks have constants of their own."""

from __future__ import annotations

from torch import Tensor, nn

from exporter.network.export import set_temperatures
from exporter.network.stage_graphs import export_stages
from exporter.network.stage_modules import split
from exporter.network.verify import verify_blocks
from tests.exporter.exported import checkpoint, held_out
from training.networks.confidence import CONFIDENCES


class Doubled(nn.Module):
    """A stage whose features are doubled."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [2.0 * each for each in self.stage(features)]


def test_a_constant_of_the_network_is_not_the_temperature() -> None:
    network = checkpoint(smaller=True).network().eval()
    network.stages[0] = Doubled(network.stages[0])
    modules = split(network, CONFIDENCES["max_softmax"])
    blocks = export_stages(modules, 32)
    set_temperatures(modules, blocks, [3.0] * len(modules))
    verify_blocks(modules, blocks, held_out().pixels)
