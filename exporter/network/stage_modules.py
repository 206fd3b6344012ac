"""Split a network into one torch module for each stage, equal to the graph that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from training.networks.multi_exit import Features, MultiExitNetwork, dim_of_channels, planes
from training.surgery.boundary import Boundary, Surgery

# Temperature until it is fitted. The exporter would remove a division by 1, and merge the weight
# with any constant of the network that is equal, such as 2.
UNSET = 1.2345679


class StageModule(nn.Module):
    """Stage k with its exit head, from the features of one boundary to those of the next.

    The first stage of each part of the network reads the image. The last one gives no features.
    Reduction and normalisation of the image, softmax, temperature and confidence are inside.
    Surgery is inside only if it changes values, which it does without referencing. Otherwise it
    only stops gradients. With additive heads, the logits are the last of the features.

    Args:
        network: The network, in eval mode.
        k: Number of the stage, from 0.
        confidence: Function from probabilities [N, classes] to confidences [N].
    """

    temperature: Tensor

    def __init__(
        self, network: MultiExitNetwork, k: int, confidence: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.reads_image = k in network.starts
        if self.reads_image:
            self.normalize = network.normalize
            self.reader = network.readers[network.starts.index(k)]
        self.stage = network.stages[k]
        self.head = network.heads[k]
        self.last = network.deeper_exits(k + 1) == 0
        surgery: Boundary = Surgery("joint") if self.last else network.surgery_at(k + 1)
        self._surgery: Boundary = surgery if surgery.changes_values else Surgery("joint")
        self._channel_dim = network.channel_dim
        self._additive = network.additive
        self.register_buffer("temperature", torch.tensor(UNSET))
        self._confidence = confidence
        assert not network.training

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Return features, probabilities [N, classes], confidence [N].

        The last stage of a part returns no features.
        """
        inputs = list(features)
        if self.reads_image:
            # in training, images are reduced after; here fewer pixels are normalised
            inputs = [self.normalize.of_planes(self.reader(planes(features[0])))]
        before = inputs.pop() if self._additive and not self.reads_image else None
        outputs: Features = self.stage(inputs)
        to_exit = outputs[-1]
        if not self.last:
            dim = dim_of_channels(to_exit, self._channel_dim)
            outputs[-1], to_exit = self._surgery.mask(to_exit, dim)
        logits: Tensor = self.head(to_exit)
        if before is not None:
            logits = logits + self._additive * before
        probabilities = torch.softmax(logits / self.temperature, dim=1)
        to_next = [] if self.last else [*outputs, logits] if self._additive else outputs
        return (*to_next, probabilities, self._confidence(probabilities))


def inputs_of(
    module: StageModule, pixels: Tensor, features: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Return the inputs of a stage: the images uint8 [N, H, W, 3], or the features before it."""
    return (pixels,) if module.reads_image else features


class SideBySide(nn.Module):
    """All stages in one module, each with inputs of its own, so that its graph has a part for each.

    Args:
        stages: The stages.
        inputs: Number of inputs of each.
    """

    def __init__(self, stages: Sequence[StageModule], inputs: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self._inputs = inputs

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of all stages, from the inputs of all stages."""
        rest = iter(features)
        return tuple(
            output
            for stage, count in zip(self.stages, self._inputs, strict=True)
            for output in stage(*islice(rest, count))
        )


def split(network: MultiExitNetwork, confidence: Callable[[Tensor], Tensor]) -> list[StageModule]:
    """Return one module for each stage of a network, which must be in eval mode."""
    assert not network.training
    return [StageModule(network, k, confidence).eval() for k in range(network.exits)]
