import pytest
import torch
from torch import Tensor, nn

from tests.training.families import CLASSES, SMALL, small_network
from training.errors import RecipeError
from training.networks.multi_exit import GlobalAveragePool, MultiExitNetwork, SingleTensorStage
from training.objectives import build_objective
from training.objectives.distillation import Distillation

IMAGES = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
TARGETS = torch.arange(5)


def test_the_loss_equals_that_of_the_released_code() -> None:
    network = small_network("vit").eval()
    options = {"share": 0.3, "temperature": 3.0, "hint": 0.03}
    objective = build_objective("distillation", options, network, 0.0)
    assert isinstance(objective, Distillation)
    inputs: list[Tensor] = []
    for head in network.heads:
        linear = head.get_submodule("linear")
        linear.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach()))
    logits = network(IMAGES)
    found = objective(logits, TARGETS)
    soft = (logits[-1] / 3).softmax(1)
    for k in range(2):
        ce = -logits[k].log_softmax(1)[torch.arange(5), TARGETS].mean()
        kd = -(soft * (logits[k] / 3).log_softmax(1)).sum(1).mean()
        distance = (objective.adapters[k](inputs[k]) - inputs[2]).square().sum().sqrt()
        expected = 0.7 * ce + 0.3 * kd + 0.03 * distance
        torch.testing.assert_close(found[k], expected)
    ce = -logits[2].log_softmax(1)[torch.arange(5), TARGETS].mean()
    torch.testing.assert_close(found[2], ce)


@pytest.mark.parametrize("backbone", SMALL)
def test_the_teacher_gets_no_gradient_from_the_early_exits(backbone: str) -> None:
    network = small_network(backbone).eval()
    objective = build_objective("distillation", {}, network, 0.0)
    losses = objective(network(IMAGES), TARGETS)
    losses[:-1].sum().backward()
    teacher = [*network.heads[-1].parameters(), *network.stages[-1].parameters()]
    assert not any(p.grad is not None and p.grad.any() for p in teacher)
    assert all(p.grad is not None for p in objective.parameters())


def test_the_hint_reads_features_before_dropout() -> None:
    network = small_network("msdnet").train()
    pooled: list[Tensor] = []
    dropouts = [head.get_submodule("dropout") for head in network.heads]
    objective = build_objective("distillation", {}, network, 0.0)
    for dropout in dropouts:
        assert isinstance(dropout, nn.Dropout)
        dropout.p = 0.5
        dropout.register_forward_pre_hook(lambda _, args: pooled.append(args[0]))
    network(IMAGES)
    assert isinstance(objective, Distillation)
    (adapter,) = objective.adapters
    expected = (adapter(pooled[0]) - pooled[1]).norm()
    torch.testing.assert_close(objective.distances(), expected[None])


def test_without_a_hint_the_objective_has_no_parameters() -> None:
    network = small_network("vgg")
    objective = build_objective("distillation", {"hint": 0}, network, 0.0)
    assert not list(objective.parameters())
    logits = list(torch.randn(network.exits, 5, CLASSES))
    assert torch.isfinite(objective(logits, TARGETS)).all()


def early_losses(objective: Distillation, share_done: float) -> Tensor:
    objective.start_step(share_done)
    logits = list(torch.randn(3, 5, CLASSES, generator=torch.Generator().manual_seed(2)))
    found: Tensor = objective(logits, TARGETS)
    return found[:-1]


def objective_with(**options: object) -> Distillation:
    objective = build_objective("distillation", {"hint": 0, **options}, small_network("vit"), 0.0)
    assert isinstance(objective, Distillation)
    return objective


def test_the_scaled_term_is_multiplied_by_the_square_of_the_temperature() -> None:
    only_teacher = {"share": 1.0, "temperature": 3.0}
    plain = early_losses(objective_with(**only_teacher), 0)
    scaled = early_losses(objective_with(**only_teacher, scaled=True), 0)
    torch.testing.assert_close(scaled, 9 * plain)


def test_the_share_of_the_teacher_rises_over_the_ramp() -> None:
    ramp = objective_with(share=0.5, ramp=0.2)
    for share_done, share in ((0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.9, 0.5)):
        expected = early_losses(objective_with(share=share), share_done)
        torch.testing.assert_close(early_losses(ramp, share_done), expected)


def test_the_mean_of_all_logits_teaches_every_exit() -> None:
    objective = objective_with(share=0.5, teacher="ensemble")
    logits = list(torch.randn(3, 5, CLASSES, requires_grad=True).unbind())
    found = objective(logits, TARGETS)
    soft = (torch.stack(logits).detach().mean(dim=0) / 3).softmax(1)
    for loss, one in zip(found, logits, strict=True):
        ce = -one.log_softmax(1)[torch.arange(5), TARGETS].mean()
        kd = -(soft * (one / 3).log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(loss, 0.5 * ce + 0.5 * kd)
    (of_another_exit,) = torch.autograd.grad(found[0], logits[1])
    assert not of_another_exit.any(), "no gradient reaches the teacher"


def test_the_hint_of_images_does_not_grow_with_the_batch() -> None:
    network = small_network("vit").eval()
    objective = build_objective("distillation", {"hint_per_image": True}, network, 0.0)
    assert isinstance(objective, Distillation)
    network(IMAGES)
    once = objective.distances()
    network(IMAGES.repeat(4, 1, 1, 1))
    torch.testing.assert_close(objective.distances(), once)


def network_with_convolution_last() -> MultiExitNetwork:
    """Build a network whose last classifier is a convolution, as some networks of timm have."""
    stages = [SingleTensorStage(nn.Conv2d(width, 4, 3)) for width in (3, 4)]
    linear = nn.Sequential(GlobalAveragePool(), nn.Linear(4, CLASSES))
    convolution = nn.Sequential(nn.Conv2d(4, CLASSES, 1), GlobalAveragePool())
    return MultiExitNetwork(stages, [linear, convolution])


def test_a_hint_needs_a_linear_layer_in_each_head() -> None:
    network = network_with_convolution_last()
    says = r"^objective\.hint: the head of exit 2 has no linear layer; give 0$"
    with pytest.raises(RecipeError, match=says):
        build_objective("distillation", {}, network, 0.0)
    objective = build_objective("distillation", {"hint": 0}, network, 0.0)
    assert torch.isfinite(objective(network(IMAGES), TARGETS)).all()


@pytest.mark.parametrize("teacher", ["last", "ensemble"])
def test_a_single_exit_is_taught_by_no_other(teacher: str) -> None:
    network = small_network("vit")
    network.stages, network.heads = network.stages[:1], network.heads[:1]
    objective = build_objective("distillation", {"teacher": teacher, "share": 0.5}, network, 0.0)
    losses = objective(network(IMAGES), TARGETS)
    assert losses.shape == (1,)
    losses.sum().backward()
    if teacher == "last":
        expected = build_objective("joint", {}, network, 0.0)(network(IMAGES), TARGETS)
        torch.testing.assert_close(losses, expected)
