"""Surgery in its masked form, the reference: detach, then concatenate. It saves no work."""

from torch import Tensor

from training.feature_map import FeatureMap
from training.surgery import Split, Surgery


class MaskedSurgery(Surgery):
    """The same gradients from plain tensors."""

    def split(self, features: Tensor | FeatureMap, dim: int = 1) -> Split:
        assert isinstance(features, Tensor)
        return Split(*self.mask(features, dim))


def plain(features: Tensor | FeatureMap) -> Tensor:
    """A tensor that stops what is stopped in `features`."""
    return features.masked() if isinstance(features, FeatureMap) else features
