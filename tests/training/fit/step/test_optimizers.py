import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.fit.step.optimizers import Muon, Optimizers, lr_factor, newton_schulz
from training.fit.step.parameter_groups import ParameterGroup
from training.recipes import RECIPES, OptimizerName, Recipe, Schedule

PAPER = Recipe().milestones


@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-3, 1e3))
def test_newton_schulz_moves_singular_values_close_to_1(
    rows: int, columns: int, scale: float
) -> None:
    torch.manual_seed(rows * 13 + columns)
    matrix = nn.init.orthogonal_(torch.empty(rows, columns)) * scale
    values = torch.linalg.svdvals(newton_schulz(matrix, steps=5))
    assert ((values > 0.6) & (values < 1.3)).all()


def test_a_step_of_muon_has_the_relative_size_of_its_learning_rate() -> None:
    weight = nn.Parameter(torch.randn(16, 8, 3, 3))
    optimizer = Muon([weight], lr=0.1, momentum=0.0)
    weight.grad = nn.init.orthogonal_(torch.empty(16, 72)).view_as(weight)
    before = weight.detach() * (math.sqrt(16) / weight.detach().norm())
    optimizer.step()
    relative = (weight.detach() - before).norm() / before.norm()
    assert 0.06 < float(relative) < 0.12, "three iterations bring it close, not exactly there"


@pytest.mark.parametrize(("kind", "lr"), [("sgd", 0.1), ("muon", 0.1), ("adamw", 0.03)])
def test_each_optimizer_fits_a_small_network(kind: OptimizerName, lr: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    groups = [ParameterGroup(list(network.parameters()), lr, 1e-4)]
    optimizers = Optimizers(groups, kind, muon_lr=0.05, momentum=0.9)
    images, targets = torch.randn(64, 3, 8, 8), torch.arange(64) % 2
    images[targets == 1, 0] += 1
    losses = []
    for _ in range(30):
        loss = nn.functional.cross_entropy(network(images), targets)
        optimizers.zero_grad()
        loss.backward()
        optimizers.step(1.0)
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("kind", ["sgd", "muon", "adamw"])
@pytest.mark.parametrize("shape", [(5,), (4, 3), (1, 4, 3), (4, 3, 2, 2), (4, 3, 2, 2, 2)])
def test_each_optimizer_updates_parameters_of_any_shape(
    kind: OptimizerName, shape: tuple[int, ...]
) -> None:
    weight = nn.Parameter(torch.ones(shape))
    optimizers = Optimizers([ParameterGroup([weight], 0.1, 0.01)], kind, muon_lr=0.1, momentum=0.9)
    weight.grad = torch.arange(1.0, weight.numel() + 1).view(shape)
    optimizers.step(1.0)
    assert (weight != 1).all()


def test_without_momentum_muon_descends_along_the_gradient() -> None:
    bias = nn.Parameter(torch.zeros(2))
    group = ParameterGroup([bias, nn.Parameter(torch.ones(2, 2, 1, 1))], 0.1, 0.0)
    optimizers = Optimizers([group], "muon", muon_lr=0.1, momentum=0.0)
    bias.grad = torch.tensor([1.0, -2.0])
    optimizers.step(1.0)
    torch.testing.assert_close(bias.detach(), torch.tensor([-0.1, 0.2]))


def test_adamw_continues_from_its_state_bit_for_bit() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(4, 3), torch.randn(6, 4, 3)

    def adamw(weight: nn.Parameter) -> Optimizers:
        group = ParameterGroup([weight], 0.1, 0.01)
        return Optimizers([group], "adamw", muon_lr=0.1, momentum=0.9)

    def update(optimizers: Optimizers, weight: nn.Parameter, steps: range) -> None:
        for step in steps:
            weight.grad = gradients[step].clone()
            optimizers.step(1 - step / 10)

    whole = nn.Parameter(start.clone())
    update(adamw(whole), whole, range(6))
    first = nn.Parameter(start.clone())
    update(before := adamw(first), first, range(3))
    assert before.state().keys() == {"0/0/step", "0/0/exp_avg", "0/0/exp_avg_sq"}
    second = nn.Parameter(first.detach().clone())
    after = adamw(second)
    after.load({name: tensor.clone() for name, tensor in before.state().items()})
    update(after, second, range(3, 6))
    assert torch.equal(whole, second)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(("clip_norm", "scale"), [(0.0, 1.0), (1.0, 0.2), (10.0, 1.0)])
def test_a_gradient_that_is_too_long_is_scaled_over_all_groups(
    kind: OptimizerName, clip_norm: float, scale: float
) -> None:
    weights = [nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [ParameterGroup([weight], 0.1, 0.0) for weight in weights]
    optimizers = Optimizers(groups, kind, muon_lr=0.1, momentum=0.9, clip_norm=clip_norm)
    for weight, gradient in zip(weights, (3.0, 4.0), strict=True):
        weight.grad = torch.full((1,), gradient)
    optimizers.step(1.0)
    found = [weight.grad.item() for weight in weights if weight.grad is not None]
    assert found == pytest.approx([3 * scale, 4 * scale])
    if kind == "sgd":
        assert [w.item() for w in weights] == pytest.approx([-0.3 * scale, -0.4 * scale])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "multistep"])
def test_schedules_rise_in_warmup_and_then_fall(schedule: Schedule) -> None:
    factors = [lr_factor(schedule, p / 1000, 0.1, PAPER) for p in range(1000)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0, abs=0.01)
    assert factors[:100] == sorted(factors[:100])
    assert factors[100:] == sorted(factors[100:], reverse=True)
    assert factors[-1] < 0.01


def test_multistep_drops_at_the_epochs_of_the_paper() -> None:
    epochs = (0, 249, 250, 280, 295)
    factors = [lr_factor("multistep", epoch / 300, 0.0, PAPER) for epoch in epochs]
    assert factors == pytest.approx([1, 1, 0.1, 0.01, 0.001])


def test_the_papers_recipes_drop_at_the_published_epochs() -> None:
    for name, epochs in {
        "cifar-paper": (250, 280, 295),
        "cifar-paper-vgg7": (270, 280, 295),
        "imagenet-paper": (70, 80, 85),
    }.items():
        recipe = RECIPES[name]
        factors = [
            lr_factor("multistep", epoch / recipe.epochs, 0.0, recipe.milestones)
            for drop in epochs
            for epoch in (drop - 1, drop)
        ]
        assert factors == pytest.approx([1, 0.1, 0.1, 0.01, 0.01, 0.001]), name
