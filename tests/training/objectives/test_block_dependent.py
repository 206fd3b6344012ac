import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.training.families import SMALL, small_network
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import build_objective
from training.surgery.boundary import Surgery

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


@pytest.mark.parametrize("variant", ["joint", "released"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("backbone", SMALL)
def test_without_overlap_one_backward_pass_is_that_of_every_group(
    backbone: str, group: int, variant: str
) -> None:
    network, twin = small_network(backbone).train(), small_network(backbone).train()
    network.surgery = twin.surgery = Surgery(variant, 0.5)
    objective = build_objective("block-dependent", {"group": group, "overlap": 0}, network, 0.0)
    assert objective.one_backward
    objective.backward(objective(network(IMAGES), TARGETS), network)

    losses = build_objective("joint", {}, twin, 0.0)(twin(IMAGES), TARGETS)
    for start in range(0, twin.exits, group):
        own = [twin.stages[start : start + group], twin.heads[start : start + group]]
        parameters = [p for part in own for p in part.parameters()]
        losses[start : start + group].sum().backward(inputs=parameters, retain_graph=True)
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        found, expected = (torch.zeros_like(p) if p.grad is None else p.grad for p in (one, other))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_no_pass_goes_further_than_its_groups_stages() -> None:
    """Each of the three stages of a transformer, all alike, is passed once for each group."""
    counted = {}
    for name, options in (
        ("joint", {}),
        ("block-dependent", {"overlap": 0}),
        ("block-dependent", {"overlap": 1}),
        ("block-dependent", {"overlap": 2}),
    ):
        network = small_network("vit").train()
        objective = build_objective(name, options, network, 0.0)
        losses = objective(network(IMAGES), TARGETS)
        with FlopCounterMode(display=False) as counter:
            objective.backward(losses, network)
        counted[name, options.get("overlap")] = counter.get_total_flops()
    none, one, two = (counted["block-dependent", overlap] for overlap in (0, 1, 2))
    assert none <= counted["joint", None]
    assert one < 2 * none
    assert none < one < two < 3 * none
