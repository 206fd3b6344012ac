"""A vision transformer with an exit after each of its last blocks.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021), in the pre-norm form of
DeiT-tiny (Touvron et al., ICML 2021). Exits as in the released code of Deep Feature Surgery
(ECCV 2024). That code starts from pretrained weights. Here all weights are fresh.

Features are a list of one tensor [N, tokens, width], class token first. Surgery splits the width.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from offramp.bounds import PositiveInt
from training.errors import RecipeError
from training.networks.multi_exit import MultiExitNetwork, SingleTensorStage
from training.record import FrozenModel

Pool = Literal["token", "mean"]


class ViTConfig(FrozenModel):
    """The shape of a ViT. The defaults are the paper's ViT-tiny (6 exits)."""

    image_size: PositiveInt = Field(224, description="height and width of the images, in pixels")
    patch: PositiveInt = Field(16, description="side of the square patch of a token, in pixels")
    width: PositiveInt = Field(192, description="length of a token's vector")
    blocks: PositiveInt = Field(12, description="transformer blocks")
    exits: PositiveInt = Field(6, description="exits, one after each of the last blocks")
    attention_heads: PositiveInt = Field(3, description="attention heads of a block")
    mlp_factor: PositiveInt = Field(4, description="width inside the MLP, in multiples of `width`")
    pool: Pool = Field("token", description="input of an exit: class token or mean of patches")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout, also of attention weights")

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.image_size % self.patch:
            raise ValueError("image_size must be a multiple of patch")
        if self.width % self.attention_heads:
            raise ValueError("width must be a multiple of attention_heads")
        if self.exits > self.blocks:
            raise ValueError("exits must be at most blocks")
        return self


class Embedding(nn.Module):
    """Image to tokens: a class token and a projection of each patch, plus learned positions."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.size = config.image_size
        tokens = 1 + (config.image_size // config.patch) ** 2
        self.patches = nn.Conv2d(3, config.width, config.patch, config.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.positions = nn.Parameter(torch.empty(1, tokens, config.width))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, 3, H, W] to [N, tokens, width].

        Raises:
            RecipeError: The images do not have the size of the learned positions.
        """
        if images.shape[-2:] != (self.size, self.size):
            seen = " x ".join(map(str, images.shape[-2:]))
            raise RecipeError(
                f"shape.image_size: {self.size}, but the images have {seen} pixels; "
                "set it to the recipe's size, and do not use small_size"
            )
        patches = self.patches(images).flatten(2).transpose(1, 2)
        # not len(images): the exporter would make it a constant
        token = self.token.expand(images.shape[0], -1, -1)
        embedded: Tensor = self.dropout(torch.cat([token, patches], dim=1) + self.positions)
        return embedded


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.heads = config.attention_heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, tokens, width] to the same shape."""
        per_head = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = per_head.permute(2, 0, 3, 1, 4).unbind()
        dropout = self.dropout if self.training else 0.0
        read = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        out: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A transformer block, with a layer norm before the attention and before the MLP."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        inner = config.mlp_factor * config.width
        self.attention = nn.Sequential(
            nn.LayerNorm(config.width, eps=1e-6), Attention(config), nn.Dropout(config.dropout)
        )
        self.mlp = nn.Sequential(
            nn.LayerNorm(config.width, eps=1e-6),
            nn.Linear(config.width, inner),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(inner, config.width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, tokens, width] to the same shape."""
        x = x + self.attention(x)
        out: Tensor = x + self.mlp(x)
        return out


class Head(nn.Module):
    """Exit head: layer norm, the class token or the mean of the patches, a linear layer."""

    def __init__(self, config: ViTConfig, classes: int) -> None:
        super().__init__()
        self.read = slice(0, 1) if config.pool == "token" else slice(1, None)
        self.norm = nn.LayerNorm(config.width, eps=1e-6)
        self.dropout = nn.Dropout(config.dropout)
        self.linear = nn.Linear(config.width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, tokens, width] to logits [N, classes]."""
        pooled = self.norm(x[:, self.read]).mean(dim=1)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits


def vit(config: ViTConfig, classes: int) -> MultiExitNetwork:
    """Build a ViT. The first stage has all blocks up to the first exit, each later one a block."""
    first = config.blocks - config.exits + 1
    stages = [SingleTensorStage(Embedding(config), *(Block(config) for _ in range(first)))]
    stages += [SingleTensorStage(Block(config)) for _ in range(config.exits - 1)]
    heads = [Head(config, classes) for _ in stages]
    network = MultiExitNetwork(stages, heads, channel_dim=-1)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return network
