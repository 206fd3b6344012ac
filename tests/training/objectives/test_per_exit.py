import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from tests.training.families import SMALL, small_network
from training.objectives import build_objective
from training.objectives.per_exit import add_flat, gradient_of_each
from training.surgery.boundary import Surgery, Variant

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6)


@pytest.mark.parametrize("backbone", SMALL)
def test_the_sum_of_the_jacobians_rows_is_the_gradient_of_the_sum(backbone: str) -> None:
    """In float64, because rounding grows in a deep network with batch norm."""
    network, other = (small_network(backbone).double().train() for _ in range(2))
    network.surgery = other.surgery = Surgery("released", 0.5)
    objective = build_objective("joint", {}, network, 0.0)
    images = IMAGES.double()
    jacobian = gradient_of_each(objective(network(images), TARGETS), network)
    add_flat(network, jacobian.sum(dim=0).double())
    objective.backward(objective(other(images), TARGETS), other)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        expected = torch.zeros_like(two) if two.grad is None else two.grad
        found = torch.zeros_like(one) if one.grad is None else one.grad
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_an_exit_has_no_gradient_in_later_stages() -> None:
    network = small_network("vit").train()
    objective = build_objective("joint", {}, network, 0.0)
    jacobian = gradient_of_each(objective(network(IMAGES), TARGETS), network)
    first = sum(p.numel() for p in network.stages[0].parameters())
    assert jacobian[0, :first].any()
    assert not jacobian[0, first:].any()
    assert jacobian[-1, first:].any()


@pytest.mark.parametrize("variant", ["joint", "released"])
@pytest.mark.parametrize("backbone", SMALL)
def test_the_backward_pass_of_an_exit_runs_through_its_stages_alone(
    backbone: str, variant: Variant
) -> None:
    """Flops and gradients are those of a network with no other loss."""
    network, twin = small_network(backbone).train(), small_network(backbone).train()
    network.surgery = twin.surgery = Surgery(variant, 0.5)
    losses = build_objective("pcgrad", {}, network, 0.0)(network(IMAGES), TARGETS)
    with FlopCounterMode(display=False) as together:
        jacobian = gradient_of_each(losses, network)
    alone, rows = 0, []
    for k in range(twin.exits):
        loss = F.cross_entropy(twin(IMAGES)[k], TARGETS)
        with FlopCounterMode(display=False) as counted:
            loss.backward()
        alone += counted.get_total_flops()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in twin.parameters()]
        rows.append(gradients)
        twin.zero_grad()
    assert together.get_total_flops() == alone
    shared = len(list(twin.stages.parameters()))
    for found, row in zip(jacobian, rows, strict=True):
        torch.testing.assert_close(found, torch.cat([one.flatten() for one in row[:shared]]))
