"""A network on a smaller image first, then at full size from the pixels.

    image ─► [reduce] ─► stages and exits 1 to k ┆ image ─► stages and exits k to n

Both parts are one multi-exit network. No feature crosses the boundary between them. At full size,
the exits before the k-th are left out: they would follow a deeper one on the smaller image.
Source of the idea: Yang et al., "Resolution Adaptive Networks" (RANet, CVPR 2020), here for any
backbone, and without features of the smaller image in the larger network.

With shared weights, both parts have the same parameters but for batch norm, and each has its own
heads. Source: Yu et al., "Slimmable Neural Networks" (ICLR 2019), section 3.3, for widths.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from training.errors import RecipeError
from training.networks.backbones import build_network, family_of
from training.networks.multi_exit import MultiExitNetwork, Pretraining
from training.networks.reduction import Reduction
from training.recipes import Recipe

Aliases = Mapping[str, str]  # each further name of a tensor, and its first one


def recipe_network(recipe: Recipe, classes: int) -> MultiExitNetwork:
    """Build the network of a recipe with fresh weights: at one size, or at two.

    Raises:
        RecipeError: The recipe describes no valid network.
    """
    full = build_network(recipe.backbone, recipe.shape, classes)
    if recipe.first_size is None:
        return full
    last = recipe.first_exit or full.exits
    if last > full.exits:
        raise RecipeError(f"first_exit: {last}, but the network has {full.exits} exits")
    small = _at_first_size(recipe, full, classes)
    readers = {
        0: Reduction(recipe.size, recipe.first_size, recipe.resizing.filter),
        last: nn.Identity(),
    }
    network = MultiExitNetwork(
        [*small.stages[:last], _joined(full.stages[:last]), *full.stages[last:]],
        [*small.heads[:last], *full.heads[last - 1 :]],
        full.channel_dim,
        readers,
    )
    if recipe.first_weights == "shared":
        _store_once(network)
    network.pretraining = _pretraining(network, small, full)
    return network


def _at_first_size(recipe: Recipe, full: MultiExitNetwork, classes: int) -> MultiExitNetwork:
    """Build the network for the smaller image, with weights of its own or shared ones."""
    config = family_of(recipe.backbone).config
    shape = config.parse(recipe.shape, option="shape", name=recipe.backbone)
    one_size = getattr(shape, "image_size", None) is not None
    if one_size and recipe.weights:
        raise RecipeError(
            "first_size: the positions of pretrained weights are for images of one size; give "
            "--weights none"
        )
    if recipe.first_weights == "shared":
        return _shared(full, one_size=one_size)
    changes = {"image_size": recipe.first_size} if one_size else {}
    try:
        return build_network(recipe.backbone, {**recipe.shape, **changes}, classes)
    except RecipeError as error:
        raise RecipeError(f"first_size: {recipe.first_size} does not fit: {error}") from error


def _shared(full: MultiExitNetwork, *, one_size: bool) -> MultiExitNetwork:
    """Return a copy of the network that has its weights, but for batch norm."""
    if one_size:
        raise RecipeError(
            "first_weights: shared needs a network for images of every size, and "
            "shape.image_size makes it one for a single size; give own"
        )
    small = deepcopy(full)
    _share(small.stages, full.stages)
    return small


def _joined(stages: nn.ModuleList) -> nn.Module:
    """Return one stage in place of several, without the exits between them."""
    return stages[0] if len(stages) == 1 else nn.Sequential(*stages)


def _share(module: nn.Module, source: nn.Module) -> None:
    """Replace the parameters of a copy by those of the original, but for batch norm."""
    for own, other in zip(module.modules(), source.modules(), strict=True):
        if not isinstance(own, _BatchNorm):
            for name, parameter in other.named_parameters(recurse=False):
                own.register_parameter(name, parameter)


def _store_once(network: MultiExitNetwork) -> None:
    """Let the state of the network have each shared tensor once, under its first name.

    The format of checkpoints refuses a tensor with two names.
    """
    first: dict[int, str] = {}
    aliases: dict[str, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        original = first.setdefault(id(parameter), name)
        if original != name:
            aliases[name] = original
    save, load = partial(_without_aliases, aliases), partial(_with_aliases, aliases)
    network.register_state_dict_post_hook(save)  # type: ignore[no-untyped-call] # torch has no types here
    network.register_load_state_dict_pre_hook(load)  # type: ignore[no-untyped-call] # as above


def _without_aliases(
    aliases: Aliases, _module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object
) -> None:
    for name in aliases:
        state.pop(prefix + name, None)


def _with_aliases(
    aliases: Aliases, _module: nn.Module, state: dict[str, Any], prefix: str, *_: object
) -> None:
    for name, original in aliases.items():
        if prefix + original in state:
            state[prefix + name] = state[prefix + original]


def _pretraining(network: MultiExitNetwork, *parts: MultiExitNetwork) -> Pretraining:
    """Return the tensors of the whole network that published weights have, as its parts do."""
    published = {
        id(tensor): part.pretraining.names[name]
        for part in parts
        for name, tensor in part.state_dict(keep_vars=True).items()
        if name in part.pretraining.names
    }
    classifier = {
        part.pretraining.names[name] for part in parts for name in part.pretraining.classifier
    }
    own = network.state_dict(keep_vars=True)
    names = {name: published[id(t)] for name, t in own.items() if id(t) in published}
    last = frozenset(name for name, there in names.items() if there in classifier)
    return Pretraining(names, last, partial=any(part.pretraining.partial for part in parts))
