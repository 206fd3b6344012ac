import pytest
import torch
from torch import nn

from training.errors import RecipeError
from training.networks.backbones import build_network
from training.networks.backbones.vit import Attention, Block, Head, ViTConfig
from training.networks.flops import flop_costs, parameter_costs

TINY = ViTConfig(image_size=16, patch=4, width=8, blocks=3, exits=2, attention_heads=2, dropout=0)


def test_the_papers_network_has_its_size_and_boundaries() -> None:
    with torch.device("meta"):
        network = build_network("vit", {}, classes=1000)
        features = [torch.empty(1, 3, 224, 224)]
    assert network.exits == 6
    # the last exit alone is DeiT-tiny
    assert parameter_costs(network).alone[-1] == 5_717_416
    for stage in network.stages:
        features = stage(features)
        assert [tuple(f.shape[1:]) for f in features] == [(197, 192)]
    blocks = [sum(isinstance(m, Block) for m in s.modules()) for s in network.stages]
    assert blocks == [7, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_count_the_matrix_products(device: str) -> None:
    """They include those of attention, for which the CPU has a fused operator."""
    network = build_network("vit", TINY.model_dump(), classes=10).to(device)
    tokens, width = 1 + 16, 8
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    costs = flop_costs(network, size=16)
    assert costs.stages == (16 * (3 * 4 * 4) * width + 2 * block, block)
    assert costs.heads == (10 * width, 10 * width)


def test_a_block_equals_torchs_encoder_layer() -> None:
    torch.manual_seed(0)
    ours = Block(TINY)
    theirs = nn.TransformerEncoderLayer(
        8,
        2,
        32,
        dropout=0,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)
    norm, attention, _ = ours.attention
    norm2, linear1, _, _, linear2, _ = ours.mlp
    assert isinstance(attention, Attention)
    for mine, other in (
        (norm, theirs.norm1),
        (attention.out, theirs.self_attn.out_proj),
        (norm2, theirs.norm2),
        (linear1, theirs.linear1),
        (linear2, theirs.linear2),
    ):
        other.load_state_dict(mine.state_dict())
    theirs.self_attn.get_parameter("in_proj_weight").data = attention.qkv.weight.data
    theirs.self_attn.get_parameter("in_proj_bias").data = attention.qkv.bias.data
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(ours(x), theirs(x))


def test_an_exit_reads_the_class_token_or_the_mean_of_the_patches() -> None:
    x = torch.randn(2, 17, 8)
    for pool, part in (("token", x[:, :1]), ("mean", x[:, 1:])):
        head = Head(TINY.model_copy(update={"pool": pool}), classes=10)
        expected = head.linear(nn.functional.layer_norm(part, [8], eps=1e-6).mean(1))
        torch.testing.assert_close(head(x), expected)


def test_dropout_is_active_in_training_only() -> None:
    network = build_network("vit", TINY.model_dump() | {"dropout": 0.5}, classes=10)
    images = torch.randn(2, 3, 16, 16)
    assert not torch.equal(network(images)[0], network(images)[0])
    network.eval()
    assert torch.equal(network(images)[0], network(images)[0])


def test_positions_distinguish_the_patches() -> None:
    network = build_network("vit", TINY.model_dump(), classes=10).eval()
    images = torch.randn(2, 3, 16, 16)
    rolled = images.roll(4, dims=-1)
    assert not torch.allclose(network(images)[-1], network(rolled)[-1], atol=1e-6)
    nn.init.zeros_(network.get_parameter("stages.0.layers.0.positions"))
    torch.testing.assert_close(network(images)[-1], network(rolled)[-1])


def test_images_of_another_size_raise_an_error_that_names_the_field() -> None:
    network = build_network("vit", TINY.model_dump(), classes=10)
    with pytest.raises(RecipeError, match=r"shape\.image_size: 16, but the images have 24 x 24"):
        network(torch.zeros(1, 3, 24, 24))
