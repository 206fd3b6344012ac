"""The base of all objectives: the losses of a step, and the gradients of the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.networks.multi_exit import BoundaryStep, MultiExitNetwork
from training.surgery.conflict import ConflictSurgery


class Objective(nn.Module):
    """The sum of the cross-entropies of all exits, in one backward pass.

    State that is trained with the network, or that a resumed run needs, is a parameter or a buffer.

    Args:
        network: Network to train. An objective does not change it.
        label_smoothing: Probability spread evenly over all labels, in [0, 1).
    """

    # True if `backward` is a single call of torch's, so that hooks see complete gradients.
    one_backward: bool = True
    # Steps at every boundary, after surgery: the second argument of the network's forward pass.
    boundary: tuple[BoundaryStep, ...] = ()
    # Weight of each class in the cross-entropies, float32 [classes]. None: equal.
    class_weights: Tensor | None

    def __init__(self, network: MultiExitNetwork, label_smoothing: float) -> None:
        super().__init__()
        self.exits = network.exits
        self.label_smoothing = label_smoothing
        self.register_buffer("class_weights", None, persistent=False)
        boundaries = (network.surgery_at(k) for k in range(1, self.exits))
        # modules of the objective, not of the network: their state is not exported
        self.conflicts = nn.ModuleList(
            one for one in boundaries if isinstance(one, ConflictSurgery)
        )

    def forward(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Compute the loss of each exit, float32 [exits].

        Args:
            logits: [N, classes] for each exit, from a forward pass with the steps in `boundary`.
            targets: int64 [N], or probabilities float32 [N, classes].
        """
        return self.cross_entropies(logits, targets)

    def start_step(self, share_done: float) -> None:
        """Set the share of the run that is done, in [0, 1), before a step."""
        del share_done

    def backward(self, losses: Tensor, network: MultiExitNetwork, *, last: bool = True) -> None:
        """Add the gradient of `losses` to the `grad` of every parameter.

        Args:
            losses: Result of `forward`, [exits].
            network: Network that computed the logits.
            last: False if more micro-batches of the same step follow.
        """
        del network
        losses.sum().backward()
        for conflict in self.conflicts if last else ():
            assert isinstance(conflict, ConflictSurgery)
            conflict.finish_step()

    def cross_entropies(self, logits: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Compute the mean cross-entropy of each exit, float32 [exits]."""
        losses = [self._cross_entropy(one.float(), targets) for one in logits]
        if self.one_backward:
            return torch.stack(losses)
        made: Tensor = _StackSeparately.apply(*losses)  # type: ignore[no-untyped-call] # apply has no types in torch
        return made

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        smoothing, weights = self.label_smoothing, self.class_weights
        if weights is None:
            return F.cross_entropy(logits, targets, label_smoothing=smoothing)
        # not torch's `weight`, which divides by the sum of the weights in a micro-batch
        of_images = weights[targets] if targets.ndim == 1 else targets @ weights
        each = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
        return (of_images * each).mean()


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
