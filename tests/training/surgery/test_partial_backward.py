"""Layers that skip stopped channels, compared with torch's on a masked input."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from training.surgery.feature_map import FeatureMap

# widths of the runs, and True for live ones
Pattern = list[tuple[int, bool]]
PATTERNS = st.lists(st.tuples(st.integers(1, 6), st.booleans()), min_size=1, max_size=5)
TOLERANCE = {
    torch.float32: (1e-4, 1e-4),
    torch.float64: (1e-10, 1e-11),
    torch.bfloat16: (0.02, 0.1),
}
DTYPES = st.sampled_from(list(TOLERANCE))


class Sample(NamedTuple):
    """A leaf, the map that reads it, and a plain tensor that stops the same channels."""

    leaf: Tensor
    map: FeatureMap
    masked: Tensor


def sample(
    pattern: Sequence[tuple[int, bool]], *size: int, dtype: torch.dtype, channels_last: bool = False
) -> Sample:
    torch.manual_seed(0)
    channels = sum(width for width, _ in pattern)
    leaf = torch.randn(size[0], channels, *size[1:], dtype=dtype)
    if channels_last:
        leaf = leaf.contiguous(memory_format=torch.channels_last)
    leaf.requires_grad_()
    parts = leaf.split([width for width, _ in pattern], dim=1)
    runs = tuple(
        part if live else width for part, (width, live) in zip(parts, pattern, strict=True)
    )
    masked = [
        part if live else part.detach() for part, (_, live) in zip(parts, pattern, strict=True)
    ]
    return Sample(leaf, FeatureMap(leaf.detach(), runs), torch.cat(masked, dim=1))


def half_live(kind: str) -> tuple[nn.Conv2d | nn.Linear, Sample]:
    """Return a layer with 5 input channels, and an input for it with the last 3 stopped."""
    size = (2, 6, 6) if kind == "conv2d" else (2,)
    x = sample([(2, True), (3, False)], *size, dtype=torch.float32)
    return nn.Conv2d(5, 4, 3) if kind == "conv2d" else nn.Linear(5, 4), x


def gradients(
    made: Tensor, wanted: Sequence[Tensor], weights: Tensor, batched: bool = False
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(
        made, wanted, weights, is_grads_batched=batched, materialize_grads=True
    )


def assert_same(layer: nn.Module, x: Sample, tolerance: torch.dtype = torch.float32) -> None:
    rtol, atol = TOLERANCE[tolerance]
    made, expected = layer(x.map), layer(x.masked)
    assert torch.equal(made, expected)
    assert made.dtype == expected.dtype
    assert made.stride() == expected.stride()
    parameters = [p for p in layer.parameters() if p.requires_grad]
    wanted, weights = [x.leaf, *parameters], torch.randn_like(made)
    found, reference = gradients(made, wanted, weights), gradients(expected, wanted, weights)
    for one, other in zip(found, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


@settings(deadline=None)
@given(
    pattern=PATTERNS,
    out=st.integers(1, 6),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    size=st.tuples(st.integers(1, 3), st.integers(5, 8), st.integers(5, 8)),
    dtype=DTYPES,
    channels_last=st.booleans(),
)
def test_conv2d_equals_torchs_on_a_masked_input(
    pattern: Pattern,
    out: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: int,
    dilation: int,
    bias: bool,
    size: tuple[int, int, int],
    dtype: torch.dtype,
    channels_last: bool,
) -> None:
    x = sample(pattern, *size, dtype=dtype, channels_last=channels_last)
    layer = nn.Conv2d(
        x.leaf.shape[1], out, kernel, stride, padding, dilation, bias=bias, dtype=dtype
    )
    if channels_last:
        layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert_same(layer, x, dtype)


@settings(deadline=None)
@given(pattern=PATTERNS, n=st.integers(1, 4), bias=st.booleans(), dtype=DTYPES)
def test_linear_equals_torchs_on_a_masked_input(
    pattern: Pattern, n: int, bias: bool, dtype: torch.dtype
) -> None:
    x = sample(pattern, n, dtype=dtype)
    assert_same(nn.Linear(x.leaf.shape[1], 3, bias=bias, dtype=dtype), x, dtype)


@settings(deadline=None)
@given(pattern=PATTERNS, bias=st.booleans(), dtype=DTYPES, convolution=st.booleans())
def test_layers_under_autocast_equal_torchs(
    pattern: Pattern, bias: bool, dtype: torch.dtype, convolution: bool
) -> None:
    """The output is bfloat16 where torch's is; gradients have the dtype of their tensors."""
    x = sample(pattern, 2, *((6, 6) if convolution else ()), dtype=dtype)
    channels = x.leaf.shape[1]
    layer: nn.Module = nn.Linear(channels, 4, bias=bias, dtype=dtype)
    if convolution:
        layer = nn.Conv2d(channels, 4, 3, bias=bias, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(layer, x, torch.bfloat16)


@pytest.mark.parametrize("kind", ["conv2d", "linear"])
def test_a_frozen_layer_returns_the_gradient_of_its_input(kind: str) -> None:
    layer, x = half_live(kind)
    layer.requires_grad_(requires_grad=False)
    assert_same(layer, x)


@pytest.mark.parametrize("kind", ["conv2d", "linear"])
def test_batched_gradients_equal_torchs(kind: str) -> None:
    layer, x = half_live(kind)
    made, expected = layer(x.map), layer(x.masked)
    wanted, weights = [x.leaf, *layer.parameters()], torch.randn(3, *made.shape)
    found = gradients(made, wanted, weights, batched=True)
    reference = gradients(expected, wanted, weights, batched=True)
    for one, other in zip(found, reference, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["conv2d", "linear"])
def test_a_second_derivative_raises_an_error(kind: str) -> None:
    layer, x = half_live(kind)
    loss = layer(x.map).square().sum()
    (first,) = torch.autograd.grad(loss, layer.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
