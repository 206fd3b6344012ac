"""Surgery in proportion to the conflict that is measured at a boundary.

In a step the features of a boundary get a gradient s from their exit, and a gradient d from the n
deeper exits together. Fixed surgery always stops the same channels. Here two shares in [0, 1] say
how many of these are stopped. With k = round(beta * C) of C channels, as in `boundary`:

    deeper exits do not train    the last round(share_d * (C - k)) channels
    the exit does not train      the first round(share_s * k) channels (if the variant stops it)

With both shares 0 the gradients are those of joint training, bit for bit. (A head that reads its
features twice, as ResNet-18's, changes the order of a sum, and so the last bit.) With both 1 they
are those of the variant with this beta. d is divided into a part along s and a part across s, which
gives two kinds of conflict:

    direction    d = a * s + across. With a < 0 the deeper exits undo the share -a of the exit's
                 descent, to first order.
    scale        b = |across| / (|s| * sqrt(n)), which is 1 for gradients of equal length at right
                 angles. With b above `scale`, the share 1 - (scale / b)^2 of the squared length is
                 too much.

share_d is the larger of the two, limited to [0, 1]. share_s is the same with s and d exchanged. The
products <s, d>, <s, s> and <d, d> are sums over the images of a batch, averaged over steps with an
exponential decay.

Sources: the channels are those of Deep Feature Surgery (arXiv 2407.13986). That a negative product
is a conflict is from Yu et al., "Gradient Surgery for Multi-Task Learning" (NeurIPS 2020), and that
scales can be in conflict from Li et al., "Improved Techniques for Training Adaptive Deep Networks"
(ICCV 2019). The shares are our own.

The whole gradient d is needed to measure it, so no work is left out of the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from training.distributed import processes, sum_over_processes
from training.surgery.boundary import Split, Surgery
from training.surgery.feature_map import FeatureMap
from training.surgery.gradient_views import MaybeTensor
from training.surgery.variants import Variant


class ConflictSurgery(nn.Module):
    """Surgery at a boundary between two stages, in proportion to the measured conflict.

    Args:
        limit: Surgery at full conflict, of a variant that changes no values.
        deeper: Number of exits after the boundary's own.
        scale: Largest b that is no conflict. `None`: only the direction counts.
        decay: Share of the averaged products that stays in a step, 0 to less than 1.
    """

    products: Tensor  # averaged <s, d>, <s, s>, <d, d>, float32 [3]
    changes_values = False

    def __init__(self, limit: Surgery, deeper: int, scale: float | None, decay: float) -> None:
        super().__init__()
        self.limit, self._deeper, self._scale, self._decay = limit, deeper, scale, decay
        self.register_buffer("products", torch.zeros(3))
        self._of_step = _leaf(self.products)

    @property
    def variant(self) -> Variant:
        """Variant of the surgery at full conflict."""
        return self.limit.variant

    def shares(self) -> Tensor:
        """Return share_d and share_s, float32 [2]."""
        along, of_exit, of_deeper = self.products.unbind()
        share_d = _share(along, of_exit, of_deeper, self._deeper, self._scale)
        share_s = _share(along, of_deeper, of_exit, 1 / self._deeper, self._scale)
        return torch.stack([share_d, share_s])

    def split(self, features: Tensor | FeatureMap, dim: int = 1) -> Split:
        """Split features as `Surgery.split` does. The backward pass measures the conflict."""
        x = features.masked() if isinstance(features, FeatureMap) else features
        if not x.requires_grad:
            return Split(x, x)
        kept = self._kept(x.shape[dim], (-1,) + (1,) * (x.ndim - 1 - dim % x.ndim))
        return Split(*_Measured.apply(x, self._of_step, *kept))  # type: ignore[no-untyped-call] # apply has no types in torch

    def mask(self, features: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
        """Return the features twice: outside of training there is nothing to stop."""
        del dim
        return features, features

    @torch.no_grad()
    def finish_step(self) -> None:
        """Average the products of the step, of all its micro-batches and processes."""
        measured, self._of_step.grad = self._of_step.grad, None
        if measured is None:
            return
        # the losses of a process are means over its shard
        self.products.lerp_(sum_over_processes(measured) / processes() ** 2, 1 - self._decay)

    def _kept(self, channels: int, shape: tuple[int, ...]) -> tuple[Tensor, MaybeTensor]:
        """Return 1 for each channel that deeper exits train, and for each that the exit trains."""
        k = self.limit.shared_channels(channels)
        from_deeper, from_exit = self.shares()
        place = torch.arange(channels, device=self.products.device)
        deeper = place < channels - torch.round(from_deeper * (channels - k))
        if not self.limit.stops_at_exit:
            return deeper.view(shape), None
        return deeper.view(shape), (place >= torch.round(from_exit * k)).view(shape)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call] # no types in torch
        self._of_step = _leaf(self.products)
        return self


def _leaf(like: Tensor) -> Tensor:
    """Return a tensor that takes the products of a step as its gradient.

    So they are summed over micro-batches, and a compiled step has no side effect.
    """
    return torch.zeros_like(like, requires_grad=True)


def _share(along: Tensor, own: Tensor, other: Tensor, count: float, scale: float | None) -> Tensor:
    """Return the share of a gradient to stop, so that it does not harm another, [].

    Args:
        along: Product of the two gradients.
        own: Squared length of the gradient that is harmed.
        other: Squared length of the gradient that harms.
        count: Number of exits of the second for one of the first.
        scale: Largest b that is no conflict. `None`: only the direction counts.
    """
    share = -along / own
    if scale is not None:
        squared = (other - along.square() / own) / (own * count)
        share = torch.maximum(share, 1 - scale**2 / squared.clamp(min=0))
    # own is 0 before the first step
    return torch.where(own > 0, share.clamp(0, 1), 0.0)


class _Measured(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's)
        values: Tensor,
        _of_step: Tensor,
        deeper: Tensor,
        to_exit: MaybeTensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(deeper, to_exit)
        return values.view_as(values), values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: MaybeTensor, s: MaybeTensor) -> tuple[MaybeTensor, ...]:  # noqa: ANN401
        deeper, to_exit = ctx.saved_tensors
        products = None if d is None or s is None else _products(s, d)
        if s is not None and to_exit is not None:
            s = s * to_exit
        if d is not None:
            d = d * deeper
        whole = d if s is None else s if d is None else d + s
        return whole, products, None, None


def _products(s: Tensor, d: Tensor) -> Tensor:
    """Return <s, d>, <s, s>, <d, d>, float32 [3]."""
    norms = [torch.linalg.vector_norm(g, dtype=torch.float32).square() for g in (s, d)]
    return torch.stack([(s * d).sum(dtype=torch.float32), *norms])
