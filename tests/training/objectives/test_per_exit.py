import pytest
import torch
from families import SMALL, small_network

from training.objectives import build_objective
from training.objectives.per_exit import add_flat, gradient_of_each
from training.surgery import Surgery

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6)


@pytest.mark.parametrize("backbone", SMALL)
def test_the_sum_of_the_rows_is_the_gradient_of_the_sum(backbone: str) -> None:
    network, other = small_network(backbone).train(), small_network(backbone).train()
    network.surgery = other.surgery = Surgery("released", 0.5)
    objective = build_objective("joint", {}, network, 0.0)
    jacobian = gradient_of_each(objective(network(IMAGES), TARGETS), network)
    add_flat(network, jacobian.sum(dim=0))
    objective.backward(objective(other(IMAGES), TARGETS), other)
    for one, two in zip(network.parameters(), other.parameters(), strict=True):
        expected = torch.zeros_like(two) if two.grad is None else two.grad
        found = torch.zeros_like(one) if one.grad is None else one.grad
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_an_exit_has_no_gradient_behind_it() -> None:
    network = small_network("vit").train()
    objective = build_objective("joint", {}, network, 0.0)
    jacobian = gradient_of_each(objective(network(IMAGES), TARGETS), network)
    first = sum(p.numel() for p in network.stages[0].parameters())
    assert jacobian[0, :first].any()
    assert not jacobian[0, first:].any()
    assert jacobian[-1, first:].any()
