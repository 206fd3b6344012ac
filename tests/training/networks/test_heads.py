"""Heads of added exits, by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.training.families import CLASSES, SMALL
from tests.training.masked import MaskedSurgery
from training.networks.backbones import build_network
from training.networks.exits import ExitsConfig
from training.networks.flops import flop_costs
from training.networks.heads import HEADS, coarse, map_head
from training.networks.multi_exit import MultiExitNetwork
from training.surgery.boundary import Surgery

LITE = "efficientnet_lite"


def with_head(name: str, **shape: object) -> MultiExitNetwork:
    """Build a small network whose exits have these heads."""
    torch.manual_seed(0)
    return build_network(LITE, {**SMALL[LITE], "head": name, **shape}, CLASSES)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [1, 7, 28])
def test_a_head_reads_maps_of_every_size(name: str, size: int) -> None:
    config = ExitsConfig.model_validate({"head": name, "hidden": 16})
    head = map_head(config, 8, CLASSES, nn.ReLU6())
    assert head(torch.randn(2, 8, size, size)).shape == (2, CLASSES)


def test_a_coarse_head_quarters_height_and_width() -> None:
    assert nn.Sequential(*coarse(8, 16, nn.ReLU()))(torch.zeros(1, 8, 28, 28)).shape[1:] == (
        *(16, 7, 7),
    )


def test_the_flops_of_a_coarse_head_are_counted() -> None:
    costs = flop_costs(with_head("coarse", blocks=[5], last_block=6, hidden=16), 128)
    # after block 5: 16 x 16 pixels, 16 channels
    depthwise = 9 * (16 * 8 * 8 + 8 * 4 * 4 + 16 * 4 * 4)
    assert costs.heads[0] == depthwise + 16 * 8 * 64 + 8 * 16 * 16 + 16 * 16 * 16 + 16 * CLASSES


def test_surgery_before_a_coarse_head_gives_the_gradients_of_masking() -> None:
    network, found = with_head("coarse").double().train(), []
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for form in (Surgery, MaskedSurgery):
        network.surgery = form("paper", 0.5)
        loss = torch.stack(network(images)).square().sum()
        found.append(torch.autograd.grad(loss, list(network.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
