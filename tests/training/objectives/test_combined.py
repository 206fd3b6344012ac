from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.training.families import small_network
from training.errors import DivergedError
from training.objectives import build_objective
from training.objectives.combined import Combined, NashMTL, bargain


def combined(name: str, exits: int = 3, **options: object) -> Combined:
    network = small_network("vit")
    assert network.exits == exits
    objective = build_objective(name, options, network, 0.0)
    assert isinstance(objective, Combined)
    return objective


def jacobian(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)


@pytest.mark.parametrize("name", ["pcgrad", "cagrad"])
def test_without_conflict_the_result_is_close_to_the_sum(name: str) -> None:
    objective = combined(name)
    for seed in range(10):
        positive = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed)) + 0.1
        found = objective.combine(positive)
        if name == "pcgrad":
            torch.testing.assert_close(found, positive.sum(0))
        assert (found - positive.sum(0)).norm() <= 0.41 * positive.sum(0).norm()


def test_pcgrad_projects_off_conflicting_gradients() -> None:
    found = combined("pcgrad").combine(jacobian([[1, 0], [-1, 1], [0, 0]]))
    # (1, 0) off (-1, 1) is (.5, .5); (-1, 1) off (1, 0) is (0, 1)
    torch.testing.assert_close(found, torch.tensor([0.5, 1.5]))


def test_pcgrads_random_order_is_independent_and_resumes() -> None:
    rows = torch.randn(3, 3, generator=torch.Generator().manual_seed(5))
    rows[1] = -rows[0] + 0.1 * rows[1]
    rows[2] -= rows[0]
    one, other = combined("pcgrad"), combined("pcgrad")
    torch.manual_seed(0)
    found = [one.combine(rows) for _ in range(12)]
    assert any(not torch.equal(found[0], later) for later in found)
    other.load_state_dict(one.state_dict())
    torch.manual_seed(1)
    assert torch.equal(other.combine(rows), one.combine(rows))
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(1))


def test_cagrad_helps_the_worst_exit_within_its_ball() -> None:
    rows = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    rows[2] -= rows[0]
    total = rows.sum(0)
    assert torch.allclose(combined("cagrad", radius=0.0).combine(rows), total, rtol=1e-3)
    found = combined("cagrad", radius=0.5).combine(rows)
    assert (found - total).norm() <= 0.5 * total.norm() * 1.01
    assert (rows @ found).min() > (rows @ total).min()


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_cagrad_gives_a_gradient_although_that_of_one_exit_is_much_shorter(scale: float) -> None:
    rows = scale * jacobian([[1e-5, 1e-5, 0], [0, 1, 0], [0, -0.5, 0.8]])
    total, found = rows.sum(0), combined("cagrad").combine(rows)
    assert found.any()
    assert (found - total).norm() <= 0.4 * total.norm() * 1.01
    assert rows[0] @ found > rows[0] @ total


@given(seed=st.integers(0, 1000), exits=st.integers(1, 9))
def test_nash_weights_solve_the_bargain(seed: int, exits: int) -> None:
    rows = torch.randn(exits, 8, generator=torch.Generator().manual_seed(seed)).double()
    gram = rows @ rows.T
    weights = bargain(gram)
    assert (weights > 0).all()
    regular = gram / gram.norm() + 1e-6 * torch.eye(exits)
    torch.testing.assert_close(regular @ weights, 1 / weights, rtol=1e-6, atol=1e-6)


def test_nash_does_not_favour_the_longer_gradient() -> None:
    """For orthogonal gradients, the weights are proportional to 1 / length."""
    rows = jacobian([[10, 0, 0], [0, 1, 0], [0, 0, 0.1]])
    found = combined("nash-mtl", max_norm=0.0).combine(rows)
    torch.testing.assert_close(
        found / found.norm(), torch.full((3,), 3**-0.5), rtol=0.01, atol=0.01
    )


@pytest.mark.parametrize("name", ["pcgrad", "cagrad", "nash-mtl", "meta-gf"])
@pytest.mark.parametrize("scale", [1e30, torch.nan])
def test_divergence_raises_an_error(name: str, scale: float) -> None:
    """It does so also if only the square of a gradient overflows."""
    network = small_network("vit")
    objective = build_objective(name, {}, network, 0.0)
    logits = network(torch.zeros(4, 3, 32, 32))
    losses = objective(logits, torch.arange(4))
    with pytest.raises(DivergedError, match=r"^lr: .* lower it"):
        objective.backward(losses * scale, network)


def test_nash_is_finite_for_opposed_and_zero_gradients() -> None:
    rows = jacobian([[1, 0, 0], [-1, 0, 0], [0, 0, 0]])
    assert torch.isfinite(combined("nash-mtl").combine(rows)).all()


def test_nash_limits_the_norm_of_the_gradient() -> None:
    rows = 10 * torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    assert combined("nash-mtl").combine(rows).norm() == pytest.approx(1.0, rel=1e-3)


def test_nash_weighs_heads_only_with_the_option() -> None:
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    gradients = {}
    weights = torch.empty(0)
    for weigh in (False, True):
        network = small_network("vit").train()
        objective = build_objective("nash-mtl", {"weigh_heads": weigh}, network, 0.0)
        assert isinstance(objective, NashMTL)
        for last in (False, True):  # two micro-batches
            losses = objective(network(images), torch.arange(6))
            objective.backward(losses, network, last=last)
        gradients[weigh] = [[p.grad for p in head.parameters()] for head in network.heads]
        weights = objective.weights
    assert (weights > 0).all()
    assert not torch.allclose(weights, torch.ones(3), atol=0.1)
    for weight, plain, weighed in zip(weights, gradients[False], gradients[True], strict=True):
        for one, other in zip(plain, weighed, strict=True):
            assert one is not None
            torch.testing.assert_close(other, weight * one)
