"""A multi-exit network: a chain of stages, an exit head after each, surgery between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.surgery.boundary import Boundary, Surgery
from training.surgery.feature_map import FeatureMap

Features = list[Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """Output of a boundary: features for the next stage, and the exit's copy of the last one."""

    onward: Sequence[Tensor | FeatureMap]
    to_exit: Tensor | FeatureMap


# A function that changes gradients, not values. It reads a branch, the number of its exit (from 1)
# and the number of deeper exits in the same part of the network.
BoundaryStep = Callable[[Branch, int, int], Branch]


@dataclass(frozen=True, slots=True)
class Pretraining:
    """The tensors of a network that published weights have.

    Attributes:
        names: Published name of each of these tensors.
        classifier: Those of the last linear layer, with shapes that depend on the number of labels.
        partial: True if the network ends early, so the weights have more tensors than these.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    classifier: frozenset[str] = frozenset()
    partial: bool = False


class Normalize(nn.Module):
    """Normalisation of stored images for the first stage.

    `mean` and `std` are per channel, of pixels in [0, 1]. They are saved with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))

    def forward(self, images: Tensor) -> Tensor:
        """Map [N, H, W, 3], uint8 or float in [0, 255], to float32 [N, 3, H, W]."""
        return self.of_planes(planes(images))

    def of_planes(self, images: Tensor) -> Tensor:
        """Normalise float32 [N, 3, H, W] in [0, 255]."""
        return (images.div(255) - self.mean[:, None, None]) / self.std[:, None, None]


def planes(images: Tensor) -> Tensor:
    """Return images [N, H, W, 3] as float32 [N, 3, H, W], with the same values."""
    # channels first: ONNX Runtime is slow on an inner dimension of 3
    return images.permute(0, 3, 1, 2).to(torch.float32)


class SingleTensorStage(nn.Module):
    """A stage for backbones with one tensor of features: a sequence of layers."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Features) -> Features:
        """Map a list of one tensor to a list of one tensor."""
        (x,) = features
        return [self.layers(x)]


class GlobalAveragePool(nn.Module):
    """The mean of each channel, without torch's adaptive pool, which exports as a gather."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C]."""
        return x.mean(dim=(2, 3))


class AveragePool(nn.Module):
    """The mean of each channel, by torch's average pool with a window of the whole image."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, 1, 1]."""
        return F.avg_pool2d(x, x.shape[-2:])


def dim_of_channels(features: Tensor | FeatureMap, of_maps: int) -> int:
    """Return the dimension of the channels: `of_maps` in feature maps, the last one in tokens."""
    return of_maps if len(features.shape) == 4 else -1


class MultiExitNetwork(nn.Module):
    """A chain of stages with an exit after each.

    A stage maps the features of the boundary before it to the features of its own boundary.
    Features are a list of [N, C, H, W] or [N, tokens, C]. The first stage reads the image alone.
    Further stages that do so begin another part of the network, which reads no features of the
    part before it. Head k maps the last tensor of the features to logits.

    `surgery` is one for all boundaries, or a sequence with one for each. `additive` is the share of
    the logits of the exit before it that an exit adds to those of its head. They get no gradient
    from it. Source: Yu et al., "Boosted Dynamic Neural Networks" (AAAI 2023, arXiv 2211.16726).
    `pretraining` names the tensors that published weights have.

    Args:
        stages: One module for each stage.
        heads: One module for each exit.
        channel_dim: Dimension of feature maps that surgery splits. Of tokens it splits the last.
        readers: Module that brings the image to the size of a part, by the number of its first
            stage, from 0. They have no parameters. `None`: there is one part.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        heads: Sequence[nn.Module],
        channel_dim: int = 1,
        readers: Mapping[int, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        assert len(stages) == len(heads) > 0
        self.channel_dim = channel_dim
        readers = readers or {0: nn.Identity()}
        self.starts = tuple(readers)
        self.readers = nn.ModuleList(readers.values())
        self.normalize = Normalize()
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads)
        self.surgery: Boundary | Sequence[Boundary] = Surgery("joint")
        self.additive = 0.0
        self.pretraining = Pretraining()

    @property
    def exits(self) -> int:
        """Number of exits."""
        return len(self.heads)

    def forward(self, x: Tensor, boundary: tuple[BoundaryStep, ...] = ()) -> list[Tensor]:
        """Map normalised images [N, 3, H, W] to logits [N, classes], one for each exit.

        Args:
            x: Images.
            boundary: Steps that follow surgery at every boundary, in order, for example
                `Objective.boundary`.
        """
        features: Sequence[Tensor | FeatureMap] = []
        logits: list[Tensor] = []
        for k, (stage, head) in enumerate(zip(self.stages, self.heads, strict=True), 1):
            features = stage(self.inputs_of(k - 1, x, features))
            to_exit = features[-1]
            if deeper := self.deeper_exits(k):
                branch = self._operate(features, k)
                for step in boundary:
                    branch = step(branch, k, deeper)
                features, to_exit = branch.onward, branch.to_exit
            own = head(to_exit)
            if self.additive and logits:
                own = own + self.additive * logits[-1].detach()
            logits.append(own)
        return logits

    def inputs_of(
        self, k: int, image: Tensor, features: Sequence[Tensor | FeatureMap]
    ) -> Sequence[Tensor | FeatureMap]:
        """Return the inputs of stage k (from 0): the image at its size, or the given features."""
        if k in self.starts:
            return [self.readers[self.starts.index(k)](image)]
        return features

    def deeper_exits(self, k: int) -> int:
        """Return the number of exits after exit k (from 1) in its part of the network."""
        return min([end for end in (*self.starts, self.exits) if end >= k]) - k

    def stages_to(self, k: int) -> nn.ModuleList:
        """Return the stages that exit k (from 1) needs."""
        return self.stages[max(start for start in self.starts if start < k) : k]

    def surgery_at(self, k: int) -> Boundary:
        """Return the surgery at the boundary after stage k, counted from 1."""
        return self.surgery[k - 1] if isinstance(self.surgery, Sequence) else self.surgery

    def _operate(self, features: Sequence[Tensor | FeatureMap], k: int) -> Branch:
        dim = dim_of_channels(features[-1], self.channel_dim)
        split = self.surgery_at(k).split(features[-1], dim)
        return Branch([*features[:-1], split.onward], split.to_exit)
