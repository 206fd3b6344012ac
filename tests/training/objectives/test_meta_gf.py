import torch

from tests.training.families import small_network
from training.objectives import build_objective
from training.objectives.meta_gf import MetaGF
from training.objectives.per_exit import shared_parameters


def meta_gf(rate: float = 0.5) -> MetaGF:
    objective = build_objective("meta-gf", {"rate": rate}, small_network("vit"), 0.0)
    assert isinstance(objective, MetaGF)
    return objective


def gradients(seed: int) -> torch.Tensor:
    """[exits, shared parameters], zero where an exit does not reach."""
    size = sum(p.numel() for p in shared_parameters(small_network("vit")))
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(seed))
    objective = meta_gf()
    reached = torch.repeat_interleave(objective.reach, torch.tensor(objective.sizes), dim=1)
    return rows * reached


def test_it_starts_as_joint_training() -> None:
    rows = gradients(0)
    torch.testing.assert_close(meta_gf().combine(rows), rows.sum(0))


def test_an_exit_whose_gradient_helped_counts_more() -> None:
    objective = meta_gf()
    first = gradients(0)
    objective.combine(first)
    # all losses still fall along the first exit's gradient, and rise along the second's
    again = torch.zeros_like(first)
    again[2] = first[0] - first[1]
    objective.combine(again)
    shares = objective.shares()
    everyone = objective.reach.all(dim=0)
    assert (shares[0, everyone] > shares[2, everyone]).all()
    assert (shares[2, everyone] > shares[1, everyone]).all()
    torch.testing.assert_close(shares.sum(0), torch.ones(shares.shape[1]))
    assert not shares[~objective.reach].any()


def test_its_state_outlives_an_interruption() -> None:
    one, other = meta_gf(), meta_gf()
    for seed in range(2):
        one.combine(gradients(seed))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.combine(gradients(2)), other.combine(gradients(2)))
