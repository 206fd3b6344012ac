"""The base of all objectives: the losses of a step, and the gradients of the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.multi_exit import BoundaryStep, MultiExitNetwork


class Objective(nn.Module):
    """The sum of the cross-entropies of all exits, in one backward pass.

    State that is trained with the network, or that a resumed run needs, is a parameter or a buffer.

    Args:
        network: network to train. An objective does not change it.
        label_smoothing: probability spread evenly over all labels, in [0, 1).
    """

    # True if `backward` is a single call of torch's, so that hooks see complete gradients.
    one_backward: bool = True
    # Steps at every boundary, after surgery: the second argument of the network's forward pass.
    boundary: tuple[BoundaryStep, ...] = ()

    def __init__(self, network: MultiExitNetwork, label_smoothing: float) -> None:
        super().__init__()
        self.exits = network.exits
        self.label_smoothing = label_smoothing

    def forward(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Compute the loss of each exit, float32 [exits].

        Args:
            logits: [N, classes] for each exit, from a forward pass with the steps in `boundary`.
            targets: int64 [N].
        """
        return self.cross_entropies(logits, targets)

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """Add the gradient of `losses` to the `grad` of every parameter.

        Args:
            losses: result of `forward`, [exits].
            network: network that computed the logits.
            last: False if more micro-batches of the same step follow.
        """
        del network, last
        losses.sum().backward()

    def cross_entropies(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Compute the mean cross-entropy of each exit, float32 [exits]."""
        losses = [
            F.cross_entropy(one.float(), targets, label_smoothing=self.label_smoothing)
            for one in logits
        ]
        if self.one_backward:
            return torch.stack(losses)
        made: Tensor = _StackSeparately.apply(*losses)  # type: ignore[no-untyped-call] # apply has no types in torch
        return made


class _StackSeparately(torch.autograd.Function):
    """A stack of losses for separate backward passes.

    torch.stack would send zeros into the other losses, and so through all of their stages.
    """

    @staticmethod
    def forward(_ctx: Any, *losses: Tensor) -> Tensor:  # noqa: ANN401 (torch's)
        return torch.stack(losses)

    @staticmethod
    def backward(_ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        counts = gradient.ne(0).tolist()
        return tuple(
            one if counted else None for one, counted in zip(gradient.unbind(), counts, strict=True)
        )
