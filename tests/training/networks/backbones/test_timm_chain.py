"""A chain of blocks is taken for a network only if it computes the same with any weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from training.errors import RecipeError
from training.networks.backbones.timm_chain import chain_of

IMAGES = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


class Block(nn.Module):
    """A residual block that changes almost nothing at first, as those of CaiT."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.scale = nn.Parameter(torch.full((8,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.scale * self.layer(x).relu()
        return out


class Transformer(nn.Module):
    def __init__(self, positions: float | None) -> None:
        super().__init__()
        self.patch_embed = Embedding()
        self.blocks = nn.Sequential(Block(), Block())
        self.head = nn.Linear(8, 2)
        self.positions = positions and nn.Parameter(torch.full((1, 4, 8), positions))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)
        if self.positions is not None:
            x = x + self.positions
        logits: Tensor = self.head(self.blocks(x).mean(dim=1))
        return logits


@torch.no_grad()
@pytest.mark.parametrize("positions", [1e-8, 0.5])
def test_positions_outside_of_the_children_are_not_added_after_the_blocks(positions: float) -> None:
    with pytest.raises(RecipeError, match="Transformer is not a chain of blocks"):
        chain_of(Transformer(positions), IMAGES)


@torch.no_grad()
def test_a_chain_is_found_and_keeps_the_values_of_all_weights() -> None:
    model = Transformer(None)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chain = chain_of(model, IMAGES)
    assert len(chain.blocks) == 2
    assert torch.equal(chain.tail(nn.Sequential(*chain.blocks)(IMAGES)), model(IMAGES))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
