"""Layers that compute the gradient of some of their input channels only.

A training step of y = W * x has three products: y, the gradient of W, and the gradient of x.
Where channels of x are stopped, the third product needs only the columns of W that read live
channels. The other two need all of x. (Masking, which detaches channels and concatenates,
computes the whole third product and discards a part of it.) Source: arXiv 2407.13986. The VGG in
its code saves the same work with two convolutions. One convolution costs less in the forward pass.

y equals the output of torch's own layer, bit for bit. Autocast, DDP, batched gradients and
torch.compile (without a graph break) work. torch refuses a second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.surgery.gradient_views import MaybeTensor, Span, slices

Pair = tuple[int, int]


class Layer(Protocol):
    """The function y = W * x + b, and the gradients of its arguments from the gradient of y."""

    def forward(self, x: Tensor, weight: Tensor, bias: MaybeTensor) -> Tensor:
        """Return y, computed by torch's own function."""

    def weight_gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[MaybeTensor, MaybeTensor]:
        """Return the gradients of weight and bias, or `None` for those not `wanted`."""

    def input_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Return the gradient of x. Only the shape and layout of x are read."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """Convolution over height and width, without groups: [N, C, H, W] to [N, out, H', W']."""

    stride: Pair
    padding: Pair
    dilation: Pair

    def forward(self, x: Tensor, weight: Tensor, bias: MaybeTensor) -> Tensor:
        """See Layer."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def weight_gradients(
        self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[MaybeTensor, MaybeTensor]:
        """See Layer."""
        _, weight_gradient, bias_gradient = self._backward(gradient, x, weight, (False, *wanted))
        return weight_gradient, bias_gradient

    def input_gradient(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """See Layer."""
        shape = torch.empty_like(x)  # torch would copy a slice of channels, for nothing
        x_gradient, _, _ = self._backward(gradient, shape, weight, (True, False, False))
        assert x_gradient is not None
        return x_gradient

    def _backward(
        self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]
    ) -> tuple[MaybeTensor, MaybeTensor, MaybeTensor]:
        bias_sizes, output_padding, transposed, groups = [weight.shape[0]], (0, 0), False, 1
        made: tuple[MaybeTensor, MaybeTensor, MaybeTensor]
        made = torch.ops.aten.convolution_backward.default(
            *(gradient, x, weight, bias_sizes, self.stride, self.padding, self.dilation),
            *(transposed, output_padding, groups, wanted),
        )
        return made


@dataclass(frozen=True, slots=True)
class Linear:
    """Linear layer: [N, C] to [N, out]."""

    def forward(self, x: Tensor, weight: Tensor, bias: MaybeTensor) -> Tensor:
        """See Layer."""
        return F.linear(x, weight, bias)

    def weight_gradients(
        self, gradient: Tensor, x: Tensor, _weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[MaybeTensor, MaybeTensor]:
        """See Layer."""
        return gradient.T @ x if wanted[0] else None, gradient.sum(0) if wanted[1] else None

    def input_gradient(self, gradient: Tensor, _x: Tensor, weight: Tensor) -> Tensor:
        """See Layer."""
        return gradient @ weight


@dataclass(frozen=True, slots=True, eq=False)
class LiveChannels:
    """Runs of live channels: first channel and end of each, and the tensor for its gradient."""

    spans: tuple[Span, ...]
    tensors: tuple[Tensor, ...]


def apply_layer(
    layer: Layer, values: Tensor, live: LiveChannels, weight: Tensor, bias: MaybeTensor
) -> Tensor:
    """Apply `layer` to all channels, with gradients for the live channels alone.

    Args:
        layer: Function to apply.
        values: Input, [N, C, ...], detached.
        live: Runs of channels, each [N, width, ...], that take a gradient.
        weight: [out, C, ...], of the dtype of `values` unless autocast is on.
        bias: [out].
    """
    arguments = [_autocast(argument) for argument in (values, weight, bias)]
    made: Tensor = _PartialBackward.apply(layer, *arguments, live.spans, *live.tensors)  # type: ignore[no-untyped-call] # apply has no types in torch
    return made


def _autocast(tensor: MaybeTensor) -> MaybeTensor:
    """Cast as autocast does. Inside an autograd Function autocast would not record the cast."""
    if tensor is None or tensor.dtype == torch.float64:
        return tensor
    device = tensor.device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


class _PartialBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's context, which takes any attribute)
        layer: Layer,
        values: Tensor,
        weight: Tensor,
        bias: MaybeTensor,
        spans: tuple[Span, ...],
        *live: Tensor,
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(values, weight)
        ctx.layer, ctx.spans, ctx.dtypes = layer, spans, [run.dtype for run in live]
        return layer.forward(values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: MaybeTensor) -> tuple[MaybeTensor, ...]:  # noqa: ANN401
        if gradient is None:  # the backward pass of another exit, which did not read this layer
            return (None,) * len(ctx.needs_input_grad)
        values, weight = ctx.saved_tensors
        weight_and_bias = ctx.layer.weight_gradients(
            gradient, values, weight, ctx.needs_input_grad[2:4]
        )
        live_gradients: Sequence[Tensor] = ()
        if ctx.spans:
            columns = _columns(weight, ctx.spans)
            x = values.narrow(1, 0, columns.shape[1])
            live_gradients = _runs(
                ctx.layer.input_gradient(gradient, x, columns), ctx.spans, ctx.dtypes
            )
        return None, None, *weight_and_bias, None, *live_gradients


def _columns(weight: Tensor, spans: tuple[Span, ...]) -> Tensor:
    """Return the part of the weight that reads live channels, as a view for a single run."""
    parts = [weight[:, start:end] for start, end in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _runs(gradient: Tensor, spans: tuple[Span, ...], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    """Split the gradient of all live channels into one for each run, in the dtype of the run."""
    ends = tuple(accumulate(end - start for start, end in spans))
    parts = slices(gradient, tuple(zip((0, *ends), ends, strict=False)))
    return [part.to(dtype) for part, dtype in zip(parts, dtypes, strict=True)]
