"""The base of all objectives: what a step minimises, and how parameters get their gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.multi_exit import MultiExitNetwork


class Objective(nn.Module):
    """The sum of every exit's cross-entropy, in one backward pass.

    What learns beside the network, or must outlive an interruption, is a parameter or a buffer.

    Args:
        network: what it trains; objectives may hook into it.
        label_smoothing: mass spread evenly over all labels, in [0, 1).
    """

    # Whether `backward` is one call of torch's, so that hooks on gradients see all there is.
    one_backward: bool = True

    def __init__(self, network: MultiExitNetwork, label_smoothing: float) -> None:
        super().__init__()
        self.exits = network.exits
        self.label_smoothing = label_smoothing

    def forward(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The loss of each exit, float32 [exits].

        Args:
            logits: [N, classes] for each exit.
            targets: int64 [N].
        """
        return self.cross_entropies(logits, targets)

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """Add the gradient of `losses`, which `forward` gave, to that of every parameter.

        Args:
            losses: [exits].
            network: what they came from.
            last: whether they end a step; or else more micro-batches of it follow.
        """
        del network, last
        losses.sum().backward()

    def cross_entropies(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Mean cross-entropy of each exit, float32 [exits]."""
        losses = [
            F.cross_entropy(one.float(), targets, label_smoothing=self.label_smoothing)
            for one in logits
        ]
        if self.one_backward:
            return torch.stack(losses)
        made: Tensor = _Apart.apply(*losses)  # type: ignore[no-untyped-call] # apply has no types in torch
        return made


class _Apart(torch.autograd.Function):
    """Stacks losses of which some are to have a backward pass of their own.

    torch's own would send zeros into all the others, and these through all of their stages.
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
