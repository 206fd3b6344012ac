import pytest
import torch
from families import SMALL, small_network
from torch import Tensor

from training.network import MultiExitNetwork
from training.objectives import build_objective

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6)


def gradients(network: MultiExitNetwork, name: str, **options: object) -> list[Tensor]:
    objective = build_objective(name, options, network, 0.0)
    objective.backward(objective(network(IMAGES), TARGETS), network)
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]


@pytest.mark.parametrize("backbone", SMALL)
def test_one_group_of_all_exits_is_joint_training(backbone: str) -> None:
    expected = gradients(small_network(backbone).train(), "joint")
    found = gradients(small_network(backbone).train(), "block-dependent", group=99, overlap=0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("group", "overlap", "exits_of_stage"),
    [(1, 0, ([0], [1], [2])), (1, 1, ([0, 1], [1, 2], [2])), (2, 0, ([0, 1], [0, 1], [2]))],
)
def test_a_stage_is_trained_by_the_exits_near_it(
    group: int, overlap: int, exits_of_stage: tuple[list[int], ...]
) -> None:
    network = small_network("vit").train()
    gradients(network, "block-dependent", group=group, overlap=overlap)
    for k, exits in enumerate(exits_of_stage):
        twin = small_network("vit").train()
        losses = build_objective("joint", {}, twin, 0.0)(twin(IMAGES), TARGETS)
        # within a group the earlier exits do not reach stages behind them: their part is zero
        losses[exits].sum().backward()
        for one, other in zip(
            network.stages[k].parameters(), twin.stages[k].parameters(), strict=True
        ):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)
