from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.training.masked import concatenate, plain
from training.surgery.feature_map import FeatureMap, split_channels


def half_stopped(channels: int = 6, live: int = 2) -> tuple[Tensor, FeatureMap, Tensor]:
    """Return a leaf, a map of it with live first channels, and the same as a masked tensor."""
    torch.manual_seed(0)
    leaf = torch.randn(2, channels, 4, 4, requires_grad=True)
    first, rest = leaf.split([live, channels - live], dim=1)
    made = FeatureMap(leaf.detach(), (first, channels - live))
    return leaf, made, torch.cat([first, rest.detach()], dim=1)


def live_channels(features: Tensor | FeatureMap, leaf: Tensor) -> list[int]:
    (gradient,) = torch.autograd.grad((plain(features) + 0 * leaf).sum(), leaf, retain_graph=True)
    return gradient[0, :, 0, 0].nonzero().flatten().tolist()


READERS: dict[str, Callable[[Any], Any]] = {
    "relu": F.relu,
    "pool": lambda x: F.adaptive_avg_pool2d(x, 1),
    "max pool": lambda x: F.max_pool2d(x, 2),
    "product": lambda x: x * torch.full((2, 6, 4, 4), 3.0),
    "sum": lambda x: torch.ones(1) + x,
    "grouped convolution": lambda x: F.conv2d(x, torch.ones(6, 1, 3, 3), groups=6),
    "padding by name": lambda x: F.conv2d(x, torch.ones(1, 6, 3, 3), padding="same"),
    "linear over the width": lambda x: F.linear(x, torch.ones(3, 4)),
    "named arguments": lambda x: F.conv2d(input=x, weight=torch.ones(1, 6, 3, 3), padding=1),
    "concatenation of images": lambda x: torch.cat([x, torch.ones(2, 6, 4, 4)]),
    "mean over channels": lambda x: x.mean(1),
    "mean over images": lambda x: x.mean((0, 2)),
    "mean of all": lambda x: x.mean(),
    "mean with its dimensions kept": lambda x: x.mean((2, 3), keepdim=True),
    "flatten": lambda x: torch.flatten(x, 1),
    "stack": lambda x: torch.stack([x, x], dim=1),
}


@pytest.mark.parametrize("name", READERS)
def test_other_functions_read_the_masked_tensor(name: str) -> None:
    leaf, given_, masked = half_stopped()
    found, expected = READERS[name](given_), READERS[name](masked)
    assert torch.equal(found, expected)
    weights = torch.randn_like(expected)
    (one,) = torch.autograd.grad(found, leaf, weights)
    (other,) = torch.autograd.grad(expected, leaf, weights)
    torch.testing.assert_close(one, other)


def test_a_concatenation_keeps_stopped_channels() -> None:
    leaf, given_, masked = half_stopped()
    made = concatenate([given_, leaf * 2, given_])
    assert isinstance(made, FeatureMap)
    assert made.spans == ((0, 2), (2, 6), (6, 12), (12, 14), (14, 18))
    assert made.live().spans == ((0, 2), (6, 12), (12, 14))
    expected = torch.cat([masked, leaf * 2, masked], dim=1)
    assert torch.equal(made.masked(), expected)
    weights = torch.randn_like(expected)
    (one,) = torch.autograd.grad(made.masked(), leaf, weights)
    (other,) = torch.autograd.grad(expected, leaf, weights)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dim", [(2, 3), -1, [3]])
def test_a_mean_over_the_image_keeps_stopped_channels(dim: tuple[int, ...] | int) -> None:
    leaf, given_, masked = half_stopped()
    made, expected = given_.mean(dim), masked.mean(dim)
    assert isinstance(made, FeatureMap)
    assert made.spans == given_.spans
    assert torch.equal(made.values, expected)
    (one,) = torch.autograd.grad(made.masked().sum(), leaf)
    (other,) = torch.autograd.grad(expected.sum(), leaf)
    torch.testing.assert_close(one, other)


@given(cuts=st.lists(st.integers(0, 6), min_size=1, max_size=4), keep=st.lists(st.booleans()))
def test_repeated_splits_keep_the_intersection_live(cuts: list[int], keep: list[bool]) -> None:
    """A channel is live if every split so far keeps it."""
    leaf = torch.randn(1, 6, 2, 2, requires_grad=True)
    features: Tensor | FeatureMap = leaf
    expected = set(range(6))
    for k, first in zip(cuts, [*keep, *[True] * len(cuts)], strict=False):
        halves = split_channels(features, k)
        features = halves.first if first else halves.rest
        expected &= set(range(k)) if first else set(range(k, 6))
        assert live_channels(features, leaf) == sorted(expected)
        assert torch.equal(plain(features), leaf)
        assert features.shape == leaf.shape


def test_a_fully_live_part_is_the_tensor_itself() -> None:
    leaf = torch.randn(1, 6, 2, 2, requires_grad=True)
    assert split_channels(leaf, 6).first is leaf
    assert split_channels(leaf, 0).rest is leaf


def test_stopped_neighbours_are_one_run() -> None:
    leaf = torch.randn(1, 6, 2, 2, requires_grad=True)
    first = split_channels(leaf, 4).first
    again = split_channels(first, 3).first
    assert isinstance(again, FeatureMap)
    assert again.spans == ((0, 3), (3, 6))


def test_zeroed_sets_a_range_of_channels_to_0() -> None:
    _, given_, _ = half_stopped()
    zeroed = given_.zeroed(3, 5).values
    kept = [0, 1, 2, 5]
    assert torch.equal(zeroed[:, kept], given_.values[:, kept]), "stopped or not"
    assert not zeroed[:, 3:5].any()
    assert given_.values[:, 3:5].any(), "the map itself must not change"
