import math

import pytest
import torch
from torch import nn

from training.networks.backbones import build_network
from training.networks.backbones.resnet18 import Attention, Residual
from training.networks.flops import flops_of_step
from training.surgery.boundary import Surgery


def test_the_papers_cifar_network_has_its_size_and_boundaries() -> None:
    network = build_network("resnet18", {}, classes=100).eval()
    assert sum(p.numel() for p in network.parameters()) == 12_283_344
    features, shapes = [torch.zeros(1, 3, 32, 32)], []
    for stage in network.stages:
        features = stage(features)
        shapes.append(tuple(features[-1].shape[1:]))
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_attention_multiplies_every_value_by_at_least_half() -> None:
    x = torch.randn(2, 8, 12, 12)
    mask = Attention(8)(x).detach() / x
    assert (mask >= 0.5 - 1e-6).all()
    assert (mask <= 1).all()
    assert float(mask.std()) > 0.01, "the mask is the same everywhere"


@pytest.mark.parametrize("size", [32, 20, 33])
def test_images_can_have_any_size(size: int) -> None:
    network = build_network("resnet18", {"channels": 4}, classes=10).eval()
    logits = network(torch.randn(2, 3, size, size))
    assert [tuple(exit_logits.shape) for exit_logits in logits] == [(2, 10)] * 4


@pytest.mark.parametrize(("cin", "stride"), [(4, 1), (4, 2), (2, 1)])
def test_a_block_adds_the_input_or_its_projection(cin: int, stride: int) -> None:
    block = Residual(cin, 4, stride).eval()
    nn.init.zeros_(block.body[-1].get_parameter("weight"))
    x = torch.randn(2, cin, 6, 6)
    out = block(x)
    assert out.shape == (2, 4, 6 // stride, 6 // stride)
    shortcut = x if (cin, stride) == (4, 1) else block.shortcut(x)
    torch.testing.assert_close(out, shortcut.relu())


def test_convolutions_have_he_initialisation() -> None:
    network = build_network("resnet18", {}, classes=10)
    weight = network.get_parameter("stages.3.layers.1.body.0.weight")
    assert float(weight.detach().std()) == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.01)


def test_backward_skips_stopped_channels_in_the_block_after_an_exit() -> None:
    """The 3x3 and the shortcut skip them, equally at each exit; the exits read them depthwise."""
    network = build_network("resnet18", {}, classes=100)
    _, joint = flops_of_step(network, size=32)
    network.surgery = Surgery("paper", 0.25)
    _, paper = flops_of_step(network, size=32)
    readers = (9 + 1) * 16 * 16 * 64 * 128
    assert joint - paper == 3 * readers * 3 // 4
