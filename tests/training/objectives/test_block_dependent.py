import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.training.families import SMALL, small_network
from tests.training.two_sizes import network_of, two_sizes
from training.fit.step.gradient import Losses
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import build_objective
from training.surgery.boundary import Surgery, Variant

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6)


def gradients(network: MultiExitNetwork, name: str, **options: object) -> list[Tensor]:
    objective = build_objective(name, options, network, 0.0)
    objective.backward(Losses(network, objective)(IMAGES, TARGETS), network)
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]


@pytest.mark.parametrize("backbone", SMALL)
def test_a_single_group_equals_joint_training(backbone: str) -> None:
    expected = gradients(small_network(backbone).train(), "joint")
    found = gradients(small_network(backbone).train(), "block-dependent", group=99, overlap=0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("group", "overlap", "exits_of_stage"),
    [(1, 0, ([0], [1], [2])), (1, 1, ([0, 1], [1, 2], [2])), (2, 0, ([0, 1], [0, 1], [2]))],
)
def test_the_exits_near_a_stage_train_it(
    group: int, overlap: int, exits_of_stage: tuple[list[int], ...]
) -> None:
    network = small_network("vit").train()
    gradients(network, "block-dependent", group=group, overlap=overlap)
    for k, exits in enumerate(exits_of_stage):
        twin = small_network("vit").train()
        losses = build_objective("joint", {}, twin, 0.0)(twin(IMAGES), TARGETS)
        # the earlier exits of a group have zero gradients in later stages
        losses[exits].sum().backward()
        for one, other in zip(
            network.stages[k].parameters(), twin.stages[k].parameters(), strict=True
        ):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("variant", ["joint", "released"])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize("backbone", SMALL)
def test_without_overlap_one_backward_pass_gives_the_gradients_of_all_groups(
    backbone: str, group: int, variant: Variant
) -> None:
    network, twin = small_network(backbone).train(), small_network(backbone).train()
    network.surgery = twin.surgery = Surgery(variant, 0.5)
    objective = build_objective("block-dependent", {"group": group, "overlap": 0}, network, 0.0)
    assert objective.one_backward
    objective.backward(Losses(network, objective)(IMAGES, TARGETS), network)
    assert_gradients_of_groups(network, twin, group)


@pytest.mark.parametrize("first_exit", [1, 2, 3])
def test_groups_are_those_of_the_exit_numbers_where_a_smaller_image_is_first(
    first_exit: int,
) -> None:
    recipe = two_sizes("vgg", variant="joint", first_exit=first_exit)
    network, twin = network_of(recipe).train(), network_of(recipe).train()
    objective = build_objective("block-dependent", {"group": 2, "overlap": 0}, network, 0.0)
    objective.backward(Losses(network, objective)(IMAGES, TARGETS), network)
    assert_gradients_of_groups(network, twin, 2)


def assert_gradients_of_groups(
    network: MultiExitNetwork, twin: MultiExitNetwork, group: int
) -> None:
    """Compare gradients with those of a backward pass of a twin for each group."""
    losses = build_objective("joint", {}, twin, 0.0)(twin(IMAGES), TARGETS)
    for start in range(0, twin.exits, group):
        own = [twin.stages[start : start + group], twin.heads[start : start + group]]
        parameters = [p for part in own for p in part.parameters()]
        losses[start : start + group].sum().backward(inputs=parameters, retain_graph=True)
    for one, other in zip(network.parameters(), twin.parameters(), strict=True):
        found, expected = (torch.zeros_like(p) if p.grad is None else p.grad for p in (one, other))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_no_backward_pass_goes_beyond_the_stages_of_its_group() -> None:
    """The three stages of the transformer are alike; each has one pass for each group."""
    joint = backward_flops("joint")
    zero, one, two = (backward_flops("block-dependent", overlap=n) for n in (0, 1, 2))
    assert zero <= joint
    assert one < 2 * zero
    assert zero < one < two < 3 * zero


def backward_flops(name: str, **options: object) -> int:
    """Count the flops of a backward pass."""
    network = small_network("vit").train()
    objective = build_objective(name, options, network, 0.0)
    losses = Losses(network, objective)(IMAGES, TARGETS)
    with FlopCounterMode(display=False) as counter:
        objective.backward(losses, network)
    flops: int = counter.get_total_flops()
    return flops
