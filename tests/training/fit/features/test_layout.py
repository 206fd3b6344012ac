"""Rows hold the features of all exits, and a network's features have the layout of its stages."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.families import SMALL, small_network
from tests.training.two_sizes import network_of, two_sizes
from training.fit.features.layout import Layout, layout_of, trunk_features

SHAPES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1)


@settings(deadline=None)
@given(shapes=SHAPES, images=st.integers(0, 3))
def test_packed_features_are_unpacked_unchanged(shapes: list[tuple[int, ...]], images: int) -> None:
    layout = Layout(tuple(shapes))
    assert layout.length == sum(map(math.prod, shapes))
    rng = torch.Generator().manual_seed(0)
    features = [torch.randn(images, *shape, generator=rng) for shape in shapes]
    rows = layout.pack(features)
    assert rows.shape == (images, layout.length)
    for unpacked, given_ in zip(layout.unpack(rows), features, strict=True):
        assert torch.equal(unpacked, given_)


@pytest.mark.parametrize("backbone", [*SMALL, "vgg at two sizes"])
def test_heads_map_the_features_of_the_trunk_to_the_networks_logits(backbone: str) -> None:
    two = backbone not in SMALL
    network = (network_of(two_sizes("vgg")) if two else small_network(backbone)).eval()
    layout = layout_of(network, 32)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = layout.unpack(layout.pack(trunk_features(network, images)))
    for logits, head, each in zip(network(images), network.heads, features, strict=True):
        torch.testing.assert_close(head(each), logits)
