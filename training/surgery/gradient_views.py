"""Views of some channels of a tensor, with gradients that are written once.

Every function returns views, so the forward pass copies nothing, and the backward pass writes
each gradient once. Plain torch costs more. The backward pass of a slice fills a whole tensor with
zeros, in a memory layout that batch norm has to convert. Masking (detach channels, then
concatenate) also copies the values. Do not write to the tensors that these functions return.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Span = tuple[int, int]
MaybeTensor = Tensor | None


class SplitViews(NamedTuple):
    """A tensor three times: whole, before channel k, and from channel k on."""

    whole: Tensor
    first: Tensor
    rest: Tensor


def split_views(x: Tensor, k: int, dim: int = 1) -> SplitViews:
    """Return x and its two parts at channel k of dimension `dim`."""
    if not x.requires_grad:
        return SplitViews(x, *x.tensor_split([k], dim))
    return SplitViews(*_SplitViews.apply(x, k, dim))  # type: ignore[no-untyped-call] # apply has no types in torch


def stop_gradient(
    values: Tensor, spans: Sequence[Span], live: Sequence[Tensor], dim: int = 1
) -> Tensor:
    """Return values that send the gradient of the channels in `spans` to `live`, and stop the rest.

    Args:
        values: Detached tensor with the channels in dimension `dim`.
        spans: First channel and end of each run of live channels.
        live: One tensor for each span, of the span's width.
        dim: Dimension of the channels.
    """
    if not live:
        return values
    made: Tensor = _StopGradient.apply(values, spans, dim, *live)  # type: ignore[no-untyped-call] # apply has no types in torch
    return made


def means(
    values: Tensor, spans: Sequence[Span], live: Sequence[Tensor], dims: Sequence[int]
) -> tuple[Tensor, ...]:
    """Return the mean of each of `live` over `dims`, as slices of `values`.

    Args:
        values: Means of all channels, [N, C, ...], detached.
        spans: First channel and end of each run of live channels, in dimension 1.
        live: One tensor [N, width, ...] for each span.
        dims: Dimensions to average over, without 0 and 1.
    """
    made: tuple[Tensor, ...] = _Means.apply(values, spans, dims, *live) if live else ()  # type: ignore[no-untyped-call] # apply has no types in torch
    return made


class _SplitViews(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int, dim: int) -> tuple[Tensor, ...]:  # noqa: ANN401
        ctx.set_materialize_grads(False)
        # the stride of a dense tensor, also where x is not dense
        ctx.shape, ctx.stride = x.shape, torch.empty_like(x, device="meta").stride()
        ctx.widths, ctx.dim = [k, x.shape[dim] - k], dim
        return x.view_as(x), *x.split(ctx.widths, dim)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: MaybeTensor) -> tuple[MaybeTensor, ...]:  # noqa: ANN401
        given = next((one for one in gradients if one is not None), None)
        if given is None:
            return None, None, None
        whole, *halves = gradients
        joined = given.new_empty_strided(ctx.shape, ctx.stride)
        if whole is not None:
            joined.copy_(whole)
        for place, gradient in zip(joined.split(ctx.widths, ctx.dim), halves, strict=True):
            if gradient is not None:
                _ = place.copy_(gradient) if whole is None else place.add_(gradient)
            elif whole is None:
                place.zero_()
        return joined, None, None


class _StopGradient(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        values: Tensor,
        spans: Sequence[Span],
        dim: int,
        *_live: Tensor,
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.spans, ctx.dim = spans, dim
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: MaybeTensor) -> tuple[MaybeTensor, ...]:  # noqa: ANN401
        if gradient is None:  # the backward pass of another exit, which did not read this tensor
            return (None,) * len(ctx.needs_input_grad)
        return None, None, None, *slices(gradient, ctx.spans, ctx.dim)


class _Means(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        values: Tensor,
        spans: Sequence[Span],
        dims: Sequence[int],
        *live: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.shapes = [one.shape for one in live]
        ctx.dims = sorted(d % live[0].ndim for d in dims)
        return slices(values, spans)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: MaybeTensor) -> tuple[MaybeTensor, ...]:  # noqa: ANN401
        found = zip(gradients, ctx.shapes, strict=True)
        return None, None, None, *(_spread(one, shape, ctx.dims) for one, shape in found)


def _spread(gradient: MaybeTensor, shape: torch.Size, dims: Sequence[int]) -> MaybeTensor:
    """Return the gradient of the averaged tensor, [*shape], as a view without copies."""
    if gradient is None:
        return None
    count = 1
    for d in dims:
        gradient, count = gradient.unsqueeze(d), count * shape[d]
    return (gradient / count).expand(shape)


def slices(x: Tensor, spans: Sequence[Span], dim: int = 1) -> tuple[Tensor, ...]:
    """Return views of x, one for each span of dimension `dim`."""
    return tuple(x.narrow(dim, start, end - start) for start, end in spans)
