import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.training.families import SMALL, small_network
from training.fit.step.gradient import Losses
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import build_objective
from training.objectives.equilibrium import scale_gradient
from training.objectives.per_exit import gradient_of_each
from training.surgery.boundary import Surgery, Variant
from training.surgery.feature_map import FeatureMap

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(6)


def prepared(backbone: str, variant: Variant) -> MultiExitNetwork:
    network = small_network(backbone).train()
    network.surgery = Surgery(variant, 0.5)
    return network


@pytest.mark.parametrize("variant", ["joint", "released", "paper", "unreferenced"])
@pytest.mark.parametrize("backbone", SMALL)
def test_a_stage_gets_the_mean_of_the_gradients_of_its_exits(
    backbone: str, variant: Variant
) -> None:
    """The factors at all branches on the way multiply to 1 / (number of exits after the stage)."""
    network = prepared(backbone, variant)
    joint = build_objective("joint", {}, network, 0.0)
    losses = joint(network(IMAGES), TARGETS)
    rows = gradient_of_each(losses, network).sum(dim=0)
    heads = [p.grad for p in network.heads.parameters()]

    balanced = prepared(backbone, variant)
    equilibrium = build_objective("equilibrium", {}, balanced, 0.0)
    same = Losses(balanced, equilibrium)(IMAGES, TARGETS)
    assert torch.equal(same, losses)
    equilibrium.backward(same, balanced)
    start = 0
    for k, stage in enumerate(balanced.stages):
        for p in stage.parameters():
            expected = rows[start : start + p.numel()].view_as(p) / (balanced.exits - k)
            found = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
            start += p.numel()
    for p, in_joint in zip(balanced.heads.parameters(), heads, strict=True):
        torch.testing.assert_close(p.grad, in_joint, rtol=1e-3, atol=1e-5)


def test_the_last_scale_alone_is_rescaled_as_in_the_authors_code() -> None:
    """After stage k of n: 1 / (n - k + 1) of the sum, where deeper exits count n - k times."""
    network, twin = prepared("msdnet", "joint"), prepared("msdnet", "joint")
    objective = build_objective("equilibrium", {"scales": "last"}, network, 0.0)
    objective.backward(Losses(network, objective)(IMAGES, TARGETS), network)
    features: list[Tensor | FeatureMap] = [IMAGES]
    losses = []
    for k, (stage, head) in enumerate(zip(twin.stages, twin.heads, strict=True)):
        *finer, last = stage(features)
        last = scale_gradient(last, 1 / (twin.exits - k))
        losses.append(F.cross_entropy(head(last), TARGETS))
        features = [*finer, scale_gradient(last, twin.exits - k - 1)]
    torch.stack(losses).sum().backward()
    for found, expected in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-6)
