"""Pretrained weights in a network: copy them into it, and check that they fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork
from training.networks.weights import Pretrained

LISTED = 5  # tensors in one error


def published_names(
    network: MultiExitNetwork, layers: Iterable[tuple[str, nn.Module]]
) -> dict[str, str]:
    """Return the published name of each tensor of the network that belongs to these layers."""
    names = {
        id(tensor): f"{prefix}.{name}".removeprefix(".")
        for prefix, layer in layers
        for name, tensor in layer.state_dict(keep_vars=True).items()
    }
    own = network.state_dict(keep_vars=True)
    return {name: names[id(tensor)] for name, tensor in own.items() if id(tensor) in names}


@torch.no_grad()
def load_pretrained(network: MultiExitNetwork, pretrained: Pretrained) -> None:
    """Copy pretrained weights into a network. Heads that they do not have keep their values.

    The classifier of the last exit is copied only if the record says that it is kept.

    Raises:
        RecipeError: Tensors are missing, unknown, or of other shapes.
    """
    tensors, own = pretrained.tensors, network.state_dict()
    if pretrained.record.keep_head:
        _check_classes(network, pretrained)
    names = _copied(network, keep_head=pretrained.record.keep_head)
    found = {name: tensors[there] for name, there in names.items() if there in tensors}
    missing = [there for name, there in names.items() if name not in found and not _counts(name)]
    _refuse("lack", missing)
    if not network.pretraining.partial:
        published = set(network.pretraining.names.values())
        _refuse("have unknown tensors:", sorted(tensors.keys() - published))
    _check_shapes(found, own, names)
    for name, tensor in found.items():
        own[name].copy_(tensor)


def _copied(network: MultiExitNetwork, *, keep_head: bool) -> dict[str, str]:
    """Return the published name of each tensor of the network that is copied."""
    names, classifier = network.pretraining.names, network.pretraining.classifier
    return {name: there for name, there in names.items() if keep_head or name not in classifier}


def _check_shapes(
    found: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Mapping[str, str]
) -> None:
    """Check that the tensors have the shapes of the network's own. `names`: published names."""
    _refuse(
        "have tensors of other shapes:",
        [
            f"{names[name]} {list(tensor.shape)} instead of {list(own[name].shape)}"
            for name, tensor in found.items()
            if tensor.shape != own[name].shape
        ],
    )


def classes_of(network: MultiExitNetwork, pretrained: Pretrained) -> int:
    """Return the number of classes of the weights' own classifier.

    Args:
        network: Network of that form, for any number of classes.
        pretrained: The weights.

    Raises:
        RecipeError: They have no classifier, or the network ends before it.
    """
    _check_whole(network)
    names = (network.pretraining.names[name] for name in network.pretraining.classifier)
    found = [len(pretrained.tensors[there]) for there in names if there in pretrained.tensors]
    if not found:
        raise RecipeError("--keep-head: the weights have no classifier")
    return found[0]


def _counts(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # early versions of torch did not save it


def _check_whole(network: MultiExitNetwork) -> None:
    if network.pretraining.partial:
        raise RecipeError(
            "--keep-head: with shape.last_block the network ends before the classifier of the "
            "weights; leave one of them out"
        )


def _check_classes(network: MultiExitNetwork, pretrained: Pretrained) -> None:
    _check_whole(network)
    own = network.state_dict()
    for name in network.pretraining.classifier:
        there = pretrained.tensors.get(network.pretraining.names[name])
        if there is not None and len(there) != len(own[name]):
            raise RecipeError(
                f"--keep-head: the weights are for {len(there)} classes, and the images have "
                f"{len(own[name])}; leave the option out"
            )


def _refuse(text: str, names: Sequence[str]) -> None:
    """Raise RecipeError if there are names."""
    if names:
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise RecipeError(
            f"--weights: they are of another network than --backbone and --shape describe. They "
            f"{text} {', '.join(names[:LISTED])}{more}"
        )
