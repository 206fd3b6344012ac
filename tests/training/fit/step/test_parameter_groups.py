"""The rates and the decay of all parameters of a recipe."""

import pytest
from torch import nn

from tests.training.families import small_network
from tests.training.samples import tiny_progress
from tests.training.two_sizes import network_of, two_sizes
from training.fit.step.parameter_groups import ParameterGroup, parameter_groups
from training.networks.multi_exit import MultiExitNetwork


def groups_of(
    network: MultiExitNetwork, objective: nn.Module | None = None, **options: object
) -> list[ParameterGroup]:
    return parameter_groups(tiny_progress(**options).recipe, network, objective or nn.Module())


def group_of(parameter: nn.Parameter, groups: list[ParameterGroup]) -> ParameterGroup:
    (found,) = [g for g in groups if any(p is parameter for p in g.parameters)]
    return found


def test_without_options_all_parameters_are_one_group_in_their_order() -> None:
    network, objective = small_network("vgg"), nn.Linear(2, 2)
    (group,) = groups_of(network, objective)
    expected = [*network.parameters(), *objective.parameters()]
    assert all(a is b for a, b in zip(group.parameters, expected, strict=True))
    assert (group.lr, group.weight_decay) == (0.1, 5e-4)


def test_trunk_and_heads_have_their_own_rates_and_norms_do_not_decay() -> None:
    network, objective = small_network("resnet18"), nn.Linear(2, 2)
    options = {"optimizer": "adamw", "lr": 2e-3, "trunk_lr": 3e-4, "weight_decay": 0.05}
    groups = groups_of(network, objective, **options)
    for part, lr in ((network.stages, 3e-4), (network.heads, 2e-3), (objective, 2e-3)):
        for parameter in part.parameters():
            group = group_of(parameter, groups)
            assert group.lr == lr
            assert group.weight_decay == (0.05 if parameter.ndim > 1 else 0)
    assert len(groups) == 4


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_each_stage_has_a_lower_rate_than_the_next(optimizer: str) -> None:
    network = small_network("vgg")
    groups = groups_of(network, optimizer=optimizer, trunk_lr=0.08, layer_decay=0.5)
    rates = [group_of(next(stage.parameters()), groups).lr for stage in network.stages]
    assert rates == [0.08 * 0.5**k for k in reversed(range(network.exits))]
    assert group_of(next(network.heads.parameters()), groups).lr == 0.1


def test_shared_weights_are_in_one_group_and_depth_counts_at_each_size() -> None:
    recipe = two_sizes("vgg", first_weights="shared", first_exit=2, optimizer="adamw")
    recipe = recipe.model_copy(update={"trunk_lr": 0.08, "layer_decay": 0.5})
    network = network_of(recipe)
    groups = parameter_groups(recipe, network, nn.Module())
    given = [id(p) for group in groups for p in group.parameters]
    assert sorted(given) == sorted(id(p) for p in network.parameters())
    norms = [[m for m in s.modules() if isinstance(m, nn.BatchNorm2d)][-1] for s in network.stages]
    rates = [group_of(norm.weight, groups).lr for norm in norms]
    assert rates == [0.04, 0.08, 0.04, 0.08]


def test_norms_do_not_decay_under_sgd_on_request() -> None:
    network = small_network("resnet18")
    groups = groups_of(network, decayed="matrices")
    assert [group.weight_decay for group in groups] == [5e-4, 0]
    assert {p.ndim for p in groups[1].parameters} == {1}


def test_a_class_token_does_not_decay() -> None:
    network = small_network("vit")
    groups = groups_of(network, optimizer="adamw")
    assert {p.ndim for p in groups[0].parameters} == {2, 4}
    assert 3 in {p.ndim for p in groups[1].parameters}


def test_parameters_that_are_not_trained_are_left_out() -> None:
    network = small_network("vgg")
    network.stages.requires_grad_(requires_grad=False)
    (group,) = groups_of(network)
    assert len(group.parameters) == len(list(network.heads.parameters()))


@pytest.mark.parametrize("option", ["trunk_lr", "layer_decay"])
def test_muon_has_no_rate_for_the_trunk(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}: Muon .* give --optimizer adamw or sgd"):
        tiny_progress(**{option: 0.5}, optimizer="muon")
