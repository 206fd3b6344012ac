"""The groups of parameters that an optimizer updates alike: their learning rate and their decay.

The trunk is all stages of a network. Everything else that is trained is of the heads: the heads
themselves and the objective's own parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from training.networks.multi_exit import MultiExitNetwork
from training.recipes import Recipe

MATRICES = (2, 4)  # dimensions of linear and convolutional weights; class tokens have three


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters with the same peak learning rate and weight decay."""

    parameters: Sequence[nn.Parameter]
    lr: float
    weight_decay: float


def parameter_groups(
    recipe: Recipe, network: MultiExitNetwork, objective: nn.Module
) -> list[ParameterGroup]:
    """Return all parameters to train, by the recipe's rates and decay.

    The groups and the order within them decide the names of an optimizer's state in a checkpoint.
    With one rate, and decay of all parameters, there is one group.
    """
    parts = [*_parts(recipe, network), (objective, recipe.lr)]
    return _merged(_groups_of_parts(parts, recipe))


def _parts(recipe: Recipe, network: MultiExitNetwork) -> Iterator[tuple[nn.Module, float]]:
    """Yield the parts of the network, with the peak learning rate of each."""
    trunk = recipe.trunk_lr or recipe.lr
    if trunk == recipe.lr and recipe.layer_decay == 1:
        yield network, recipe.lr
        return
    for k, stage in enumerate(network.stages, 1):
        yield stage, trunk * recipe.layer_decay ** network.deeper_exits(k)
    yield network.heads, recipe.lr


def _groups_of_parts(
    parts: Sequence[tuple[nn.Module, float]], recipe: Recipe
) -> Iterator[ParameterGroup]:
    """Yield the groups of each part. Parameters of two parts belong to the first."""
    known: set[nn.Parameter] = set()
    for part, lr in parts:
        trained = [p for p in part.parameters() if p.requires_grad and p not in known]
        known.update(trained)
        yield from _groups(trained, lr, recipe)


def _groups(trained: list[nn.Parameter], lr: float, recipe: Recipe) -> list[ParameterGroup]:
    """Return parameters as one group, or as those that decay and those that do not."""
    if recipe.optimizer == "muon" or (recipe.optimizer == "sgd" and recipe.decayed == "all"):
        return [ParameterGroup(trained, lr, recipe.weight_decay)]
    matrices = [p for p in trained if p.ndim in MATRICES]
    others = [p for p in trained if p.ndim not in MATRICES]
    return [
        ParameterGroup(matrices, lr, recipe.weight_decay),
        ParameterGroup(others, lr, 0.0),
    ]


def _merged(groups: Iterable[ParameterGroup]) -> list[ParameterGroup]:
    """Return the groups without empty ones. Those with the same rate and decay become one."""
    merged: dict[tuple[float, float], list[nn.Parameter]] = {}
    for group in groups:
        merged.setdefault((group.lr, group.weight_decay), []).extend(group.parameters)
    return [ParameterGroup(found, *key) for key, found in merged.items() if found]
