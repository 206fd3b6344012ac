"""A network that reads stored features instead of images, with the heads of another network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.fit.features.layout import Layout
from training.networks.multi_exit import Features, MultiExitNetwork, Normalize


class StoredFeatures(nn.Module):
    """A stage that reads the features of its exit from rows, instead of computing them."""

    def __init__(self, layout: Layout, k: int) -> None:
        super().__init__()
        self.layout, self.k = layout, k

    def forward(self, features: Features) -> Features:
        """Map rows [N, length] and features of an earlier exit to the rows and float32 features."""
        rows = features[0]
        return [rows, self.layout.of_exit(self.k, rows).to(torch.float32)]


class NotNormalized(Normalize):
    """The normalisation of stored features: there is nothing to do."""

    def forward(self, images: Tensor) -> Tensor:
        """Return rows [N, length]."""
        return images


def feature_reader(network: MultiExitNetwork, layout: Layout) -> MultiExitNetwork:
    """Return a network that maps rows [N, length] to the logits of all exits of `network`.

    Both have the same heads: training one of them trains the other.
    """
    stages = [StoredFeatures(layout, k) for k in range(network.exits)]
    reader = MultiExitNetwork(stages, list(network.heads), network.channel_dim)
    reader.normalize = NotNormalized()
    reader.additive = network.additive
    return reader
