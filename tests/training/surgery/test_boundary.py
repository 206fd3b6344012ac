from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training.golden import REROUTE
from tests.training.masked import MaskedSurgery, concatenate, plain
from training.errors import RecipeError
from training.surgery.boundary import Surgery, Variant
from training.surgery.feature_map import FeatureMap

MODES: dict[str, Variant] = {
    "fr": "released",
    "nofr": "unreferenced",
    "off": "joint",
    "paper": "paper",
}
CASES = sorted({key.split("/")[0] for key in REROUTE.files if "_b" in key})


@pytest.mark.parametrize("form", [Surgery, MaskedSurgery])
@pytest.mark.parametrize("case", CASES)
def test_split_equals_that_of_the_released_code(case: str, form: type[Surgery]) -> None:
    channels, beta, mode = case.split("_")
    x = torch.tensor(REROUTE[f"{channels}/x"], requires_grad=True)
    halves = form(MODES[mode], int(beta[1:]) / 1000).split(x)
    for half, values, weights, gradient in (
        (plain(halves.onward), "x_plus", "wp", "gp"),
        (plain(halves.to_exit), "x_sub", "ws", "gs"),
    ):
        assert np.array_equal(half.detach(), REROUTE[f"{case}/{values}"])
        loss = (half * torch.tensor(REROUTE[f"{channels}/{weights}"])).sum()
        (found,) = (
            torch.autograd.grad(loss, x, retain_graph=True, allow_unused=True)
            if loss.requires_grad
            else (None,)
        )
        found = torch.zeros_like(x) if found is None else found
        np.testing.assert_allclose(found, REROUTE[f"{case}/{gradient}"], rtol=1e-6)


@given(
    channels=st.integers(1, 40),
    beta=st.floats(0, 1),
    variant=st.sampled_from(["joint", "released", "paper"]),
)
def test_referencing_does_not_change_values(channels: int, beta: float, variant: Variant) -> None:
    x = torch.randn(2, channels, 3, 3, requires_grad=True)
    for half in Surgery(variant, beta).split(x):
        assert torch.equal(plain(half), x)


SURGERIES = st.tuples(
    st.sampled_from(["joint", "released", "paper", "unreferenced"]), st.floats(0, 1)
)


def convolve(x: Tensor | FeatureMap, weight: Tensor, padding: int = 0) -> Tensor:
    """Call F.conv2d; its type knows no maps."""
    return F.conv2d(x, weight, padding=padding)  # type: ignore[arg-type]


@settings(deadline=None)
@given(
    surgeries=st.lists(SURGERIES, min_size=1, max_size=4),
    growth=st.integers(1, 4),
    channels=st.integers(1, 7),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    channels_last=st.booleans(),
)
def test_surgery_in_dense_networks_equals_masking(
    surgeries: list[tuple[Variant, float]],
    growth: int,
    channels: int,
    dtype: torch.dtype,
    channels_last: bool,
) -> None:
    """Each layer appends to the output of a boundary, and the next boundary splits it again."""
    torch.manual_seed(0)
    leaf = torch.randn(2, channels, 3, 3, dtype=dtype)
    if channels_last:
        leaf = leaf.contiguous(memory_format=torch.channels_last)
    leaf.requires_grad_()
    widths = [channels + growth * k for k in range(len(surgeries))]
    layers, heads = (
        [torch.randn(growth, width, 3, 3, dtype=dtype, requires_grad=True) for width in widths]
        for _ in range(2)
    )

    def outputs(form: Callable[[Variant, float], Surgery]) -> list[Tensor]:
        x: Tensor | FeatureMap = leaf * 1
        made = []
        for (variant, beta), layer, head in zip(surgeries, layers, heads, strict=True):
            onward, to_exit = form(variant, beta).split(x)
            made.append(convolve(to_exit, head))
            x = concatenate([onward, convolve(onward, layer, padding=1)])
        return [*made, plain(x)]

    def gradients(made: list[Tensor]) -> tuple[Tensor, ...]:
        loss = torch.cat([one.flatten() for one in made]).square().sum()
        return torch.autograd.grad(loss, [leaf, *layers, *heads], materialize_grads=True)

    found, expected = outputs(Surgery), outputs(MaskedSurgery)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12  # of the largest: sums cancel
    pairs = zip((*found, *gradients(found)), (*expected, *gradients(expected)), strict=True)
    for one, other in pairs:
        largest = max(1.0, float(other.detach().abs().max()))
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance * largest)
    if "unreferenced" not in dict(surgeries):
        assert all(map(torch.equal, found, outputs(lambda *_: Surgery("joint"))))


@given(
    channels=st.integers(1, 40),
    beta=st.floats(0, 1),
    variant=st.sampled_from(["joint", "released", "paper", "unreferenced"]),
)
def test_without_gradients_split_returns_tensors(
    channels: int, beta: float, variant: Variant
) -> None:
    x, surgery = torch.randn(2, channels, 3, 3), Surgery(variant, beta)
    in_training = surgery.split(x.clone().requires_grad_())
    for half, expected in zip(surgery.split(x), in_training, strict=True):
        assert isinstance(half, torch.Tensor)
        assert torch.equal(half, plain(expected))


@given(channels=st.integers(1, 40), beta=st.floats(0, 1))
def test_in_the_papers_variant_each_channel_is_trained_by_one_side(
    channels: int, beta: float
) -> None:
    x = torch.randn(1, channels, 2, 2, requires_grad=True)
    surgery = Surgery("paper", beta)
    split = surgery.split(x)
    # 0 * x: all channels of a half can be stopped
    onward, to_exit = (
        torch.autograd.grad((plain(half) + 0 * x).sum(), x, retain_graph=True)[0] for half in split
    )
    shared = torch.arange(channels) < surgery.shared_channels(channels)
    assert torch.equal(onward[0, :, 0, 0] == 1, shared)
    assert torch.equal(to_exit[0, :, 0, 0] == 1, ~shared)


@pytest.mark.parametrize("variant", ["joint", "released", "paper", "unreferenced"])
def test_split_works_in_any_channel_dimension(variant: Variant) -> None:
    surgery, x = Surgery(variant, 0.4), torch.randn(2, 7, 3, requires_grad=True)
    last = x.transpose(1, 2).detach().requires_grad_()
    for one, other in zip(map(plain, surgery.split(x)), surgery.split(last, dim=-1), strict=True):
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one.transpose(1, 2), other)
        (expected,) = torch.autograd.grad(one.sum(), x, retain_graph=True)
        (found,) = torch.autograd.grad(other.sum(), last, retain_graph=True)
        assert torch.equal(expected.transpose(1, 2), found)


def test_the_number_of_shared_channels_is_rounded_half_to_even() -> None:
    assert [
        Surgery("paper", b).shared_channels(c) for c, b in ((5, 0.5), (7, 0.5), (10, 0.25))
    ] == [2, 4, 2]


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_beta_outside_0_to_1_is_rejected(beta: float) -> None:
    with pytest.raises(RecipeError, match="beta"):
        Surgery("released", beta)
