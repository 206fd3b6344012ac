import pickle

import pytest
import torch
from torch import nn

from training.networks.backbones import build_network
from training.networks.flops import (
    Costs,
    flop_costs,
    flops_of_step,
    flops_to_exits,
    parameter_costs,
)
from training.networks.multi_exit import (
    AveragePool,
    GlobalAveragePool,
    MultiExitNetwork,
    SingleTensorStage,
)


def by_hand() -> MultiExitNetwork:
    stage = SingleTensorStage(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)
    )
    head = nn.Sequential(GlobalAveragePool(), nn.Linear(4, 5))
    deeper = SingleTensorStage(AveragePool(), nn.Conv2d(4, 6, 1, bias=False), nn.Dropout())
    return MultiExitNetwork(
        [stage, deeper], [head, nn.Sequential(nn.Flatten(), nn.Linear(6, 5, bias=False))]
    )


def test_both_conventions_by_hand() -> None:
    # 7 x 7 pixels, 3 x 3 after the max-pool, 1 x 1 after the average pool
    network = by_hand()
    convolution = 49 * 4 * 27
    assert flop_costs(network, 7) == Costs((convolution, 24), (20, 30))
    assert flop_costs(network, 7, "papers") == Costs(
        (convolution + 49 * 4 + 9 * 4 * 9, 24 + 9 * 4), (20 + 5 + 9 * 4, 30)
    )


def test_parameters_by_hand() -> None:
    assert parameter_costs(by_hand()) == Costs((4 * 27 + 4 + 8, 24), (25, 30))


def test_cumulative_counts_all_heads_and_alone_one_head() -> None:
    costs = Costs((100, 20, 3), (1, 2, 4))
    assert costs.cumulative == (101, 123, 130)
    assert costs.alone == (101, 122, 127)


def test_flops_of_the_papers_cifar_network() -> None:
    """The expected values are half of torch's counts for the released network, in millions."""
    network = build_network("msdnet", {}, classes=100)
    millions = [round(flops / 1e6, 2) for flops in flops_to_exits(network, size=32)]
    assert millions == [56.03, 100.41, 154.56, 197.23, 248.56, 297.0, 339.55]


def test_the_papers_convention_gives_the_counts_of_the_released_code() -> None:
    """The expected values are the counts of the released code for its CIFAR network."""
    with torch.device("meta"):
        network = build_network("msdnet", {}, classes=100)
    assert flop_costs(network, 32, "papers").cumulative == (
        *(56_426_084, 100_998_344, 155_310_892, 198_097_296),
        *(249_534_452, 298_051_160, 340_640_956),
    )


@pytest.mark.parametrize("training", [True, False])
def test_counting_does_not_change_the_network(training: bool) -> None:
    network = by_hand().train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    flop_costs(network, 7, "papers")
    assert network.training == training
    assert pickle.dumps(network), "a remaining hook, a local function, would not be pickled"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_joint_step_costs_three_forward_passes_minus_the_gradient_of_the_image() -> None:
    network = build_network("msdnet", {}, classes=100)
    forward, backward = flops_of_step(network, size=32)
    assert forward == flops_to_exits(network, size=32)[-1]
    first = 32 * 32 * 3 * 16 * 9
    assert 2 * forward - first == backward
    assert network.training, "counting must not change the network"
    assert all(p.grad is None and not p.is_meta for p in network.parameters())
