import torch

from tests.training.families import small_network
from tests.training.two_sizes import network_of, two_sizes
from training.objectives import build_objective
from training.objectives.meta_gf import MetaGF
from training.objectives.per_exit import shared_parameters


def meta_gf(rate: float = 0.5) -> MetaGF:
    objective = build_objective("meta-gf", {"rate": rate}, small_network("vit"), 0.0)
    assert isinstance(objective, MetaGF)
    return objective


def gradients(seed: int) -> torch.Tensor:
    """Draw a Jacobian [exits, shared parameters], zero where an exit reaches no parameter."""
    size = sum(p.numel() for p in shared_parameters(small_network("vit")))
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(seed))
    objective = meta_gf()
    reached = torch.repeat_interleave(objective.reach, torch.tensor(objective.sizes), dim=1)
    return rows * reached


def test_the_first_step_equals_joint_training() -> None:
    rows = gradients(0)
    torch.testing.assert_close(meta_gf().combine(rows), rows.sum(0))


def test_a_helpful_gradient_gets_a_larger_importance() -> None:
    objective = meta_gf()
    first = gradients(0)
    objective.combine(first)
    # all losses still fall along the first exit's gradient, and rise along the second's
    again = torch.zeros_like(first)
    again[2] = first[0] - first[1]
    objective.combine(again)
    weights = objective.weights()
    shared = objective.reach.all(dim=0)
    assert (weights[0, shared] > weights[2, shared]).all()
    assert (weights[2, shared] > weights[1, shared]).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(weights.shape[1]))
    assert not weights[~objective.reach].any()


def test_the_state_is_restored_on_resume() -> None:
    one, other = meta_gf(), meta_gf()
    for seed in range(2):
        one.combine(gradients(seed))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.combine(gradients(2)), other.combine(gradients(2)))


def test_exits_at_full_size_reach_no_batch_norm_of_the_smaller_image() -> None:
    network = network_of(two_sizes("vgg", first_weights="shared"))
    objective = build_objective("meta-gf", {}, network, 0.0)
    assert isinstance(objective, MetaGF)
    small = {id(p) for p in network.stages[:3].parameters()}
    full = {id(p) for p in network.stages[3].parameters()}
    parameters = shared_parameters(network)
    assert objective.reach[3].tolist() == [id(p) in full for p in parameters]
    assert objective.reach[2].tolist() == [id(p) in small for p in parameters]
    assert not objective.reach[3].all()
