"""The gradient of each exit's own loss, for objectives that combine them.

A stage's parameters get gradients from the exits at and after it; a head's from its own exit
alone, which is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.distributed import average, processes
from training.networks.multi_exit import MultiExitNetwork


def shared_parameters(network: MultiExitNetwork) -> list[nn.Parameter]:
    """Those of all stages, in order of depth."""
    return [p for p in network.stages.parameters() if p.requires_grad]


def gradient_of_each(losses: Tensor, network: MultiExitNetwork) -> Tensor:
    """Jacobian of the losses, averaged over all processes; adds the heads' own to their `grad`.

    Each exit's backward pass goes through its own stages alone.

    Args:
        losses: [exits].
        network: whose forward pass they come from.

    Returns:
        float32 [exits, number of shared parameters].
    """
    shared = shared_parameters(network)
    jacobian = losses.new_zeros(len(losses), sum(p.numel() for p in shared))
    for k, (loss, head) in enumerate(zip(losses.unbind(), network.heads, strict=True)):
        reached = [p for p in network.stages[: k + 1].parameters() if p.requires_grad]
        own = [p for p in head.parameters() if p.requires_grad]
        found = torch.autograd.grad(
            loss, reached + own, retain_graph=k + 1 < len(losses), allow_unused=True
        )
        _flatten(found[: len(reached)], reached, jacobian[k])
        add_gradients(own, average_all(found[len(reached) :]))
    average(jacobian)
    return jacobian


def _flatten(gradients: Sequence[Tensor | None], like: Sequence[Tensor], into: Tensor) -> None:
    """Write gradients one after another, zeros where there is none."""
    start = 0
    for gradient, parameter in zip(gradients, like, strict=True):
        if gradient is not None:
            into[start : start + parameter.numel()].view_as(parameter).copy_(gradient)
        start += parameter.numel()


def average_all(gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Each gradient's mean over all processes."""
    found = [gradient for gradient in gradients if gradient is not None]
    if processes() == 1 or not found:
        return gradients
    # one message, and in the order of elements, whatever the order in memory
    flat = torch.cat([gradient.flatten() for gradient in found])
    average(flat)
    parts = iter(flat.split([gradient.numel() for gradient in found]))
    return [None if one is None else next(parts).view(one.shape) for one in gradients]


def add_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add to `grad` as a backward pass would."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def add_flat(network: MultiExitNetwork, gradient: Tensor) -> None:
    """Add a gradient of all shared parameters, [their number], to `grad`."""
    shared = shared_parameters(network)
    parts = gradient.split([p.numel() for p in shared])
    add_gradients(shared, [part.view_as(p) for part, p in zip(parts, shared, strict=True)])
