"""A network into one torch module for each stage, each of them all that its graph will be."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.networks.multi_exit import Features, MultiExitNetwork
from training.surgery.boundary import Surgery


class StageModule(nn.Module):
    """Stage k with its exit head: features of the boundary before to those of its own.

    Normalisation, softmax, temperature and confidence are inside. Surgery is not where it only
    stops gradients; without referencing it changes values, and is.

    Args:
        network: in eval mode.
        k: which stage, from 0.
        confidence: probabilities [N, classes] to [N].
    """

    temperature: Tensor

    def __init__(
        self, network: MultiExitNetwork, k: int, confidence: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.normalize = network.normalize if k == 0 else None
        self.stage = network.stages[k]
        self.head = network.heads[k]
        self.last = k == network.exits - 1
        surgery = Surgery("joint") if self.last else network.surgery_at(k + 1)
        self._surgery = surgery if surgery.changes_values else Surgery("joint")
        self._channel_dim = network.channel_dim
        # anything but 1, a division by which would be optimised away on export
        self.register_buffer("temperature", torch.tensor(2.0))
        self._confidence = confidence
        assert not network.training

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """The features (none from the last stage), probabilities [N, classes], confidence [N]."""
        given = list(features) if self.normalize is None else [self.normalize(features[0])]
        made: Features = self.stage(given)
        to_exit = made[-1]
        if not self.last:
            made[-1], to_exit = self._surgery.mask(to_exit, self._channel_dim)
        probabilities = torch.softmax(self.head(to_exit) / self.temperature, dim=1)
        onward = [] if self.last else made
        return (*onward, probabilities, self._confidence(probabilities))


def split(network: MultiExitNetwork, confidence: Callable[[Tensor], Tensor]) -> list[StageModule]:
    """One module for each stage of a network that is in eval mode."""
    assert not network.training
    return [StageModule(network, k, confidence).eval() for k in range(network.exits)]
