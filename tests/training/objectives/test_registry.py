"""The registry, and properties of every objective in it."""

import sys

import pytest
import torch
from torch import Tensor

from tests.training.families import CLASSES, SMALL, small_network
from training.errors import RecipeError
from training.fit.step.gradient import Losses
from training.networks.multi_exit import MultiExitNetwork
from training.objectives import OBJECTIVES, build_objective
from training.surgery.boundary import Surgery

IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def gradients(network: MultiExitNetwork, name: str = "joint", **options: object) -> list[Tensor]:
    """Return the gradient of every parameter of the network; zeros for those without."""
    objective = build_objective(name, options, network, label_smoothing=0.1)
    network.train().zero_grad()
    losses = Losses(network, objective)(IMAGES, torch.arange(6))
    assert losses.shape == (network.exits,)
    assert torch.isfinite(losses).all()
    objective.backward(losses, network)
    found = [torch.zeros_like(p) if p.grad is None else p.grad for p in network.parameters()]
    assert all(torch.isfinite(gradient).all() for gradient in found)
    return found


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_trains_every_parameter_that_joint_training_does(
    name: str, backbone: str
) -> None:
    network = small_network(backbone)
    network.surgery = Surgery("paper", 0.5)
    reached = [gradient.any().item() for gradient in gradients(network)]
    found = gradients(small_network_of(backbone, network.surgery), name)
    assert [gradient.any().item() for gradient in found] == reached


def small_network_of(backbone: str, surgery: Surgery) -> MultiExitNetwork:
    network = small_network(backbone)
    network.surgery = surgery
    return network


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_does_not_change_the_network(name: str) -> None:
    """Joint training gives the same logits and gradients after another objective is built."""
    options: dict[str, object] = {"overlap": 0} if name == "block-dependent" else {}
    network, twin = small_network("msdnet").train(), small_network("msdnet").train()
    network.surgery = twin.surgery = Surgery("paper", 0.5)
    build_objective(name, options, network, label_smoothing=0.1)
    assert all(map(torch.equal, network(IMAGES), twin(IMAGES)))
    assert all(map(torch.equal, gradients(network), gradients(twin)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_of_two_passes_are_added(name: str) -> None:
    network = small_network("vit")
    objective = build_objective(name, {}, network, label_smoothing=0.0)
    images, targets = torch.randn(4, 3, 32, 32), torch.arange(4)
    sums = []
    for _ in range(2):
        objective.backward(Losses(network, objective)(images, targets), network)
        sums.append([p.grad.norm() for p in network.heads.parameters() if p.grad is not None])
    torch.testing.assert_close(torch.stack(sums[1]), 2 * torch.stack(sums[0]))


def test_unknown_objectives_and_options_are_rejected() -> None:
    network = small_network("vgg")
    with pytest.raises(RecipeError, match="objective: 'adversarial' is not one of joint"):
        build_objective("adversarial", {}, network, 0.0)
    with pytest.raises(RecipeError, match=r"objective\.warmth: .* \(fields of pcgrad: none\)"):
        build_objective("pcgrad", {"warmth": 1}, network, 0.0)
    with pytest.raises(RecipeError, match=r"objective\.share: .*less than or equal to 1"):
        build_objective("distillation", {"share": 2}, network, 0.0)


@pytest.mark.parametrize(
    ("name", "module"),
    [("cagrad", "cvxpy"), ("cagrad", "clarabel"), ("pcgrad", "torchjd.aggregation")],
)
def test_a_missing_library_raises_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RecipeError, match=rf"needs {module}; pip install 'offramp\[objectives\]'"):
        build_objective(name, {}, small_network("vgg"), 0.0)


def test_label_smoothing_is_applied() -> None:
    network = small_network("vgg")
    objective = build_objective("joint", {}, network, label_smoothing=0.2)
    logits = [torch.zeros(1, CLASSES).index_fill(1, torch.tensor([3]), 50.0)] * network.exits
    (loss, *_) = objective(logits, torch.tensor([3]))
    assert loss.item() == pytest.approx(50 * 0.2 * (CLASSES - 1) / CLASSES, rel=1e-4)
