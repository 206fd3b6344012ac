"""EfficientNet-Lite equals the published implementation, with the published weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.training.golden_lite import CLASSES, FILE, photos
from training.errors import RecipeError
from training.networks.backbones import build_network, pretrained_weights
from training.networks.flops import flop_costs, parameter_costs
from training.networks.multi_exit import MultiExitNetwork
from training.networks.pretrained import load_pretrained

LITE = "efficientnet_lite"
GOLDEN = np.load(FILE)


def pretrained_network(**shape: object) -> MultiExitNetwork:
    """Build a network with the published weights and their normalisation."""
    weights = pretrained_weights(LITE, shape, "package", keep_head=True)
    network = build_network(LITE, shape, classes=1000).eval()
    load_pretrained(network, weights)
    network.normalize.mean.copy_(torch.tensor(weights.record.mean))
    network.normalize.std.copy_(torch.tensor(weights.record.std))
    return network


@torch.no_grad()
def test_logits_are_those_of_the_published_implementation() -> None:
    network = pretrained_network()
    logits = network(network.normalize(torch.from_numpy(GOLDEN["pixels"])))[-1]
    np.testing.assert_allclose(logits.numpy(), GOLDEN["logits"], rtol=0, atol=1e-4)


@torch.no_grad()
def test_photos_get_the_classes_that_they_show() -> None:
    network = pretrained_network()
    logits = network(network.normalize(photos()))[-1]
    assert logits.argmax(1).tolist() == list(CLASSES.values())


@pytest.mark.parametrize(
    ("variant", "size", "flops", "parameters"),
    # published: 4.7, 5.4 and 6.1 million parameters, and 407, 631 and 899 million flops, by a count
    # of more operations
    [(0, 224, 385.2e6, 4.65e6), (1, 240, 600.2e6, 5.42e6), (2, 260, 859.7e6, 6.09e6)],
)
def test_flops_and_parameters_are_the_published_ones(
    variant: int, size: int, flops: float, parameters: float
) -> None:
    network = build_network(LITE, {"variant": variant}, classes=1000)
    costs, weights = flop_costs(network, size), parameter_costs(network)
    assert sum(costs.stages) + costs.heads[-1] == pytest.approx(flops, rel=1e-3)
    assert sum(weights.stages) + weights.heads[-1] == pytest.approx(parameters, rel=1e-2)


def test_weights_fit_every_variant() -> None:
    for variant in (1, 2):
        weights = pretrained_weights(LITE, {"variant": variant}, "package", keep_head=False)
        load_pretrained(build_network(LITE, {"variant": variant}, classes=3), weights)


def blocks_of(network: MultiExitNetwork) -> list[int]:
    return [
        len([name for name, _ in stage.named_modules() if name.count(".") == 1])
        for stage in network.stages
    ]


def test_exits_are_at_the_shares_of_flops_that_the_shape_gives() -> None:
    network = build_network(LITE, {"exits": [0.3, 0.4, 0.6, 0.75]}, classes=3)
    costs = flop_costs(network, 224)
    shares = np.cumsum(costs.stages) / sum(costs.stages)
    np.testing.assert_allclose(shares[:-1], [0.3, 0.4, 0.6, 0.75], atol=0.05)
    # the stem is the first layer of the first stage
    assert blocks_of(network) == [6, 2, 3, 2, 4]
    assert blocks_of(build_network(LITE, {"blocks": [5, 8, 11, 13]}, classes=3)) == [6, 3, 3, 2, 3]


def test_exits_that_do_not_rise_are_refused() -> None:
    for shape in ({"exits": [0.5, 0.51]}, {"exits": [0.999]}, {"blocks": [8, 5]}, {"blocks": [16]}):
        with pytest.raises(RecipeError, match=r"^shape\.(exits|blocks).*rise and end before"):
            build_network(LITE, shape, classes=3)


@torch.no_grad()
def test_a_network_that_ends_early_has_the_features_of_the_whole() -> None:
    whole, cut = (
        pretrained_network(blocks=[8, 11], exits=[]),
        pretrained_cut(last_block=11, blocks=[8]),
    )
    images = whole.normalize(torch.from_numpy(GOLDEN["pixels"][:1]))
    features, own = [images], [images]
    for stage, other in zip(whole.stages, cut.stages, strict=False):
        features, own = stage(features), other(own)
        torch.testing.assert_close(own, features)
    assert cut.exits == 2
    costs, cut_costs = flop_costs(whole, 224), flop_costs(cut, 224)
    assert (cut_costs.stages, cut_costs.heads) == (costs.stages[:2], costs.heads[:2])


def pretrained_cut(**shape: object) -> MultiExitNetwork:
    """Build a network that ends early, with the published weights of what it has."""
    network = build_network(LITE, shape, classes=1000).eval()
    load_pretrained(network, pretrained_weights(LITE, shape, "package", keep_head=False))
    return network


def test_shares_of_a_network_that_ends_early_are_those_of_its_own_trunk() -> None:
    assert blocks_of(build_network(LITE, {"last_block": 11, "exits": [0.5]}, 3)) == [7, 5]


def test_a_network_cannot_end_after_its_last_block_or_keep_a_head_that_it_has_not() -> None:
    with pytest.raises(RecipeError, match=r"shape\.last_block: 17, but the network has 16 blocks"):
        build_network(LITE, {"last_block": 17}, classes=3)
    cut = build_network(LITE, {"last_block": 12}, classes=1000)
    weights = pretrained_weights(LITE, {"last_block": 12}, "package", keep_head=True)
    with pytest.raises(RecipeError, match=r"--keep-head: with shape\.last_block the network ends"):
        load_pretrained(cut, weights)


def test_a_linear_head_has_no_convolution() -> None:
    shapes = ({"head": "linear"}, {"hidden": 64}, {"hidden": 128})
    weights = [parameter_costs(build_network(LITE, shape, 3)).heads for shape in shapes]
    # 80 channels at the first exit; each of the hidden ones has two numbers of batch norm
    per_channel = 80 + 2 + 3
    assert [each[0] for each in weights] == [
        80 * 3 + 3,
        64 * per_channel + 3,
        128 * per_channel + 3,
    ]
    assert len({each[-1] for each in weights}) == 1


@pytest.mark.parametrize("size", [32, 63, 225])
def test_images_of_odd_sizes_are_read(size: int) -> None:
    network = build_network(LITE, {"width": 0.25}, classes=3)
    assert [each.shape for each in network(torch.zeros(2, 3, size, size))] == [(2, 3)] * 4
