"""Views of parts of a tensor and their joint gradient, compared with torch's slices."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.surgery.gradient_views import means, slices, split_views, stop_gradient

Readers = Callable[[Tensor], list[Tensor]]
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "not dense": lambda x: x.repeat(1, 1, 1, 2)[..., ::2],
}


def leaf(layout: str = "contiguous", dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(0)
    x: Tensor = LAYOUTS[layout](torch.randn(2, 5, 3, 4, dtype=dtype))
    return x.requires_grad_()


def assert_same(found: Readers, expected: Readers, x: Tensor, batched: bool = False) -> Tensor:
    """Compare values and gradients of x; return the gradient found."""
    ours, theirs = found(x), expected(x)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)
    given_ = [torch.randn(*([3] if batched else []), *one.shape, dtype=one.dtype) for one in ours]
    (one,), (other,) = (
        torch.autograd.grad(outs, x, given_, is_grads_batched=batched, retain_graph=True)
        for outs in (ours, theirs)
    )
    torch.testing.assert_close(one, other)
    return one


@settings(deadline=None)
@given(
    k=st.integers(0, 5),
    dim=st.sampled_from([1, -3]),
    read=st.sets(st.integers(0, 2), min_size=1),
    layout=st.sampled_from(list(LAYOUTS)),
    batched=st.booleans(),
)
def test_split_views_equals_slices(
    k: int, dim: int, read: set[int], layout: str, batched: bool
) -> None:
    """Any subset of the parts is read."""

    def found(x: Tensor) -> list[Tensor]:
        parts = split_views(x, k, dim)
        return [parts[i] for i in read]

    def expected(x: Tensor) -> list[Tensor]:
        parts = (x * 1, x[:, :k], x[:, k:])
        return [parts[i] for i in read]

    assert_same(found, expected, leaf(layout), batched)


@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_the_gradient_of_split_views_has_the_layout_of_the_values(layout: str) -> None:
    """Otherwise the next reader would have to convert it."""
    x = leaf(layout)
    whole, first, rest = split_views(x, 2)
    for loss in (first.sum(), first.sum() + rest.sum(), whole.sum() + first.sum()):
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        assert gradient.stride() == x.stride()


def test_the_parts_are_views() -> None:
    x = leaf()
    whole, first, rest = split_views(x, 2)
    assert whole.data_ptr() == first.data_ptr() == x.data_ptr()
    assert rest.data_ptr() == x[:, 2:].data_ptr()
    stopped = stop_gradient(x.detach(), [(0, 2)], [first])
    assert stopped.data_ptr() == x.data_ptr()


def test_split_views_without_gradient_record_no_graph() -> None:
    assert not any(part.requires_grad for part in split_views(leaf().detach(), 2))


@pytest.mark.parametrize("batched", [False, True])
def test_stop_gradient_equals_masking(batched: bool) -> None:
    spans = [(0, 1), (3, 5)]

    def found(x: Tensor) -> list[Tensor]:
        return [stop_gradient(x.detach(), spans, slices(x, spans))]

    def expected(x: Tensor) -> list[Tensor]:
        return [torch.cat([x[:, :1], x[:, 1:3].detach(), x[:, 3:]], dim=1)]

    assert_same(found, expected, leaf(), batched)


def test_stop_gradient_in_the_last_dimension() -> None:
    def found(x: Tensor) -> list[Tensor]:
        return [stop_gradient(x.detach(), [(1, 4)], [x[..., 1:]], dim=-1)]

    def expected(x: Tensor) -> list[Tensor]:
        return [torch.cat([x[..., :1].detach(), x[..., 1:]], dim=-1)]

    assert_same(found, expected, leaf())


def test_without_live_channels_the_values_are_returned() -> None:
    x = leaf().detach()
    assert stop_gradient(x, [], []) is x
    assert means(x.mean((2, 3)), [], [], (2, 3)) == ()


@pytest.mark.parametrize("dims", [(2, 3), (-1,), (3, 2)])
@pytest.mark.parametrize("batched", [False, True])
def test_means_equal_slices_of_torchs_mean(dims: tuple[int, ...], batched: bool) -> None:
    spans = [(0, 1), (3, 5)]

    def found(x: Tensor) -> list[Tensor]:
        return list(means(x.detach().mean(dims), spans, slices(x, spans), dims))

    def expected(x: Tensor) -> list[Tensor]:
        return list(slices(x.mean(dims), spans))

    assert_same(found, expected, leaf(), batched)


@pytest.mark.parametrize("function", ["split_views", "stop_gradient", "means"])
def test_a_second_derivative_raises_an_error(function: str) -> None:
    x = leaf()
    made = {
        "split_views": lambda: split_views(x, 2).first,
        "stop_gradient": lambda: stop_gradient(x.detach(), [(0, 5)], [x]),
        "means": lambda: means(x.detach().mean((2, 3)), [(0, 5)], [x], (2, 3))[0],
    }[function]()
    (first,) = torch.autograd.grad(made.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
