"""Surgery by masking, the reference: detach, then concatenate. It saves no work."""

from collections.abc import Sequence

import torch
from torch import Tensor

from training.surgery.boundary import Split, Surgery
from training.surgery.feature_map import FeatureMap


class MaskedSurgery(Surgery):
    """Surgery with the same gradients from plain tensors."""

    def split(self, features: Tensor | FeatureMap, dim: int = 1) -> Split:
        """See Surgery."""
        assert isinstance(features, Tensor)
        if self.variant == "joint":
            return Split(features, features)
        stopped = torch.zeros_like if self.changes_values else torch.detach
        plus, minus = features.tensor_split([self.shared_channels(features.shape[dim])], dim=dim)
        onward = torch.cat([plus, stopped(minus)], dim=dim)
        if self.variant == "released" and self.beta < 1:
            return Split(onward, features)
        return Split(onward, torch.cat([stopped(plus), minus], dim=dim))


def plain(features: Tensor | FeatureMap) -> Tensor:
    """Return a tensor that stops the channels that are stopped in `features`."""
    return features.masked() if isinstance(features, FeatureMap) else features


def concatenate(features: Sequence[Tensor | FeatureMap]) -> Tensor | FeatureMap:
    """Call torch.cat over the channels; its type knows no maps."""
    made: Tensor | FeatureMap = torch.cat(features, dim=1)  # type: ignore[arg-type]
    return made
