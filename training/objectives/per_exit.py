"""The gradient of each exit's loss, for objectives that combine these gradients.

The parameters of a stage get gradients from the exits at and after it. Those are combined. The
parameters of a head get the gradient of their own exit alone, which is not changed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.distributed import average_over_processes, processes
from training.networks.multi_exit import MultiExitNetwork


def shared_parameters(network: MultiExitNetwork) -> list[nn.Parameter]:
    """Return the parameters of all stages, in order of depth."""
    return [p for p in network.stages.parameters() if p.requires_grad]


def gradient_of_each(losses: Tensor, network: MultiExitNetwork) -> Tensor:
    """Compute the Jacobian of the losses, and add the gradients of the heads to their `grad`.

    Both are averaged over all processes. The backward pass of an exit runs through the stages up
    to that exit alone.

    Args:
        losses: One loss for each exit, [exits].
        network: Network that computed the logits of these losses.

    Returns:
        The Jacobian, float32 [exits, number of shared parameters].
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
    average_over_processes(jacobian)
    return jacobian


def _flatten(gradients: Sequence[Tensor | None], like: Sequence[Tensor], into: Tensor) -> None:
    """Write the gradients one after another, and skip parameters without gradient."""
    start = 0
    for gradient, parameter in zip(gradients, like, strict=True):
        if gradient is not None:
            into[start : start + parameter.numel()].view_as(parameter).copy_(gradient)
        start += parameter.numel()


def average_all(gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Return the mean of each gradient over all processes."""
    found = [gradient for gradient in gradients if gradient is not None]
    if processes() == 1 or not found:
        return gradients
    # one message for all; flatten gives the logical order of elements, not that in memory
    flat = torch.cat([gradient.flatten() for gradient in found])
    average_over_processes(flat)
    parts = iter(flat.split([gradient.numel() for gradient in found]))
    return [None if one is None else next(parts).view(one.shape) for one in gradients]


def add_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """Add the gradients to `grad`, as a backward pass does."""
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def add_flat(network: MultiExitNetwork, gradient: Tensor) -> None:
    """Add a gradient [number of shared parameters] to the `grad` of the shared parameters."""
    shared = shared_parameters(network)
    parts = gradient.split([p.numel() for p in shared])
    add_gradients(shared, [part.view_as(p) for part, p in zip(parts, shared, strict=True)])
