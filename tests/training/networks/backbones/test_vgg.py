import pytest
import torch
from torch import nn

from training.networks.backbones import build_network
from training.networks.flops import flops_of_step
from training.surgery.boundary import Surgery

VGG16 = {"convolutions": (2, 2, 3, 3, 3)}


@pytest.mark.parametrize(
    ("shape", "size", "boundaries"),
    [
        ({}, 32, [(64, 32), (64, 16), (128, 16), (128, 8), (256, 8), (256, 4)]),
        (
            VGG16,
            224,
            [
                *[(64, 224), (64, 112), (128, 112), (128, 56), (256, 56), (256, 56), (256, 28)],
                *[(512, 28), (512, 28), (512, 14), (512, 14), (512, 14), (512, 7)],
            ],
        ),
    ],
)
def test_an_exit_follows_every_convolution(
    shape: dict[str, object], size: int, boundaries: list[tuple[int, int]]
) -> None:
    with torch.device("meta"):
        network = build_network("vgg", shape, classes=10)
        features, shapes = [torch.empty(1, 3, size, size)], []
    for stage in network.stages:
        assert sum(isinstance(m, nn.Conv2d) for m in stage.modules()) == 1
        features = stage(features)
        shapes.append(tuple(features[-1].shape[1:3]))
    assert shapes == boundaries


def test_parameters_are_in_convolutions_batch_norms_and_linear_layers() -> None:
    network = build_network("vgg", {}, classes=100)
    pairs = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    expected = 64 + sum(9 * cin * cout + 2 * cout + 100 * cout for cin, cout in pairs)
    assert sum(p.numel() for p in network.parameters()) == expected == 1_235_968


def test_a_stage_has_the_layers_of_the_released_code() -> None:
    network = build_network("vgg", {"channels": 4}, classes=10)
    types = [
        [type(m) for m in stage.get_submodule("layers").children()] for stage in network.stages
    ]
    assert types[:2] == [
        [nn.Conv2d, nn.ReLU, nn.BatchNorm2d],
        [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d],
    ]
    parameters = dict(network.named_parameters())
    biases = [f"stages.{k}.layers.0.bias" in parameters for k in range(6)]
    assert biases == [True, False, False, False, False, False]


def test_an_exit_reads_the_mean_of_each_channel() -> None:
    network = build_network("vgg", {"channels": 4}, classes=10)
    x = torch.randn(2, 4, 6, 5)
    expected = x.mean((2, 3)) @ network.get_parameter("heads.0.1.weight").T
    torch.testing.assert_close(network.heads[0](x), expected)


@pytest.mark.parametrize(
    ("surgery", "millions"),
    [
        (Surgery("joint"), 607.88),
        (Surgery("paper", 0.1), 335.66),
        (Surgery("paper", 0.3), 395.80),
        (Surgery("paper", 0.5), 456.82),
        (Surgery("paper", 0.7), 517.84),
        (Surgery("paper", 0.9), 577.98),
    ],
)
def test_backward_flops_equal_those_of_the_released_code(surgery: Surgery, millions: float) -> None:
    """Flops are those of torch's counter, two for each multiply-add."""
    network = build_network("vgg", {}, classes=100)
    network.surgery = surgery
    _, backward = flops_of_step(network, size=32)
    assert round(2 * backward / 1e6, 2) == millions
