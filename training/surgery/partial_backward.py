"""Layers that take back a gradient for some of their input channels only.

A training step of y = W * x has three products: y, the gradient of W, the gradient of x. Where
channels of x are stopped, the third shrinks to the columns of W that read live ones; the others
need all of x. (Masking, that is to detach channels and concatenate, computes the whole third
product and throws a part of it away.) Source: arXiv 2407.13986, whose VGG saves the same work
with two convolutions; one costs less forward.

y is what torch's own layer gives, bit for bit. Autocast, DDP, batched gradients and
torch.compile (without a graph break) work; torch refuses a second derivative.
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
    """y = W * x + b, and the gradients of its arguments from that of y."""

    def forward(self, x: Tensor, weight: Tensor, bias: MaybeTensor) -> Tensor:
        """Y, by torch's own function."""

    def of_weights(
        self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[MaybeTensor, MaybeTensor]:
        """Gradients of weight and bias, as far as they are wanted."""

    def of_input(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Gradient of x, of which only shape and layout are read."""


@dataclass(frozen=True, slots=True)
class Convolution:
    """Over height and width, without groups: [N, C, H, W] to [N, out, H', W']."""

    stride: Pair
    padding: Pair
    dilation: Pair

    def forward(self, x: Tensor, weight: Tensor, bias: MaybeTensor) -> Tensor:
        """See Layer."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation)

    def of_weights(
        self, gradient: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[MaybeTensor, MaybeTensor]:
        """See Layer."""
        _, of_weight, of_bias = self._backward(gradient, x, weight, (False, *wanted))
        return of_weight, of_bias

    def of_input(self, gradient: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """See Layer."""
        shape = torch.empty_like(x)  # a slice of channels would be copied, to no purpose
        of_x, _, _ = self._backward(gradient, shape, weight, (True, False, False))
        assert of_x is not None
        return of_x

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
    """[N, C] to [N, out]."""

    def forward(self, x: Tensor, weight: Tensor, bias: MaybeTensor) -> Tensor:
        """See Layer."""
        return F.linear(x, weight, bias)

    def of_weights(
        self, gradient: Tensor, x: Tensor, _weight: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[MaybeTensor, MaybeTensor]:
        """See Layer."""
        return gradient.T @ x if wanted[0] else None, gradient.sum(0) if wanted[1] else None

    def of_input(self, gradient: Tensor, _x: Tensor, weight: Tensor) -> Tensor:
        """See Layer."""
        return gradient @ weight


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """Live channels: first and end of each run of them, and the tensor that takes its gradient."""

    spans: tuple[Span, ...]
    tensors: tuple[Tensor, ...]


def read(layer: Layer, values: Tensor, live: Live, weight: Tensor, bias: MaybeTensor) -> Tensor:
    """What `layer` makes of all channels.

    Args:
        layer: which function.
        values: what it reads, [N, C, ...]; takes no gradient.
        live: the runs of channels, each [N, width, ...], that do.
        weight: [out, C, ...], of the values' dtype unless autocast is on.
        bias: [out].
    """
    arguments = [_autocast(argument) for argument in (values, weight, bias)]
    made: Tensor = _Read.apply(layer, *arguments, live.spans, *live.tensors)  # type: ignore[no-untyped-call] # apply has no types in torch
    return made


def _autocast(tensor: MaybeTensor) -> MaybeTensor:
    """As autocast would, which inside a Function would cast where nothing is recorded."""
    if tensor is None or tensor.dtype == torch.float64:
        return tensor
    device = tensor.device.type
    if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
        return tensor
    return tensor.to(torch.get_autocast_dtype(device))


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 (torch's, to keep things on)
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
        if gradient is None:  # another exit's backward pass, which does not come by here
            return (None,) * len(ctx.needs_input_grad)
        values, weight = ctx.saved_tensors
        of_weights = ctx.layer.of_weights(gradient, values, weight, ctx.needs_input_grad[2:4])
        of_live: Sequence[Tensor] = ()
        if ctx.spans:
            columns = _columns(weight, ctx.spans)
            x = values.narrow(1, 0, columns.shape[1])
            of_live = _runs(ctx.layer.of_input(gradient, x, columns), ctx.spans, ctx.dtypes)
        return None, None, *of_weights, None, *of_live


def _columns(weight: Tensor, spans: tuple[Span, ...]) -> Tensor:
    """The part of the weight that reads live channels; of one run a view."""
    parts = [weight[:, start:end] for start, end in spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _runs(gradient: Tensor, spans: tuple[Span, ...], dtypes: Sequence[torch.dtype]) -> list[Tensor]:
    """The gradient of all live channels as one of each run, in the run's dtype."""
    ends = tuple(accumulate(end - start for start, end in spans))
    parts = slices(gradient, tuple(zip((0, *ends), ends, strict=False)))
    return [part.to(dtype) for part, dtype in zip(parts, dtypes, strict=True)]
