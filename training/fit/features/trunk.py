"""The frozen trunk that computes features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.errors import DataError
from training.fit.features.layout import Layout, trunk_features
from training.fit.features.store import Rows
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import images_at_once

VALUES_AT_ONCE = 8 * 3 * 224**2  # of pixels in a forward pass; more of them are slower on a CPU


@dataclass(frozen=True, slots=True)
class Trunk:
    """A frozen trunk that computes features.

    Attributes:
        network: Network on the device of the run, in eval mode.
        layout: Layout of its features.
        device: Device of the run.
        backbone: Name of its backbone in the recipe, for the cache.
    """

    network: MultiExitNetwork
    layout: Layout
    device: torch.device
    backbone: str = ""

    def rows(self, pixels: Tensor, views: int) -> Rows:
        """Compute the features of images uint8 [N, H, W, 3], float16 [N * views, length].

        Raises:
            DataError: A value is not finite in float16.
        """
        batches = pixels.split(images_at_once(pixels, VALUES_AT_ONCE))
        rows: Rows = torch.cat([self._rows_at_once(batch, views) for batch in batches]).numpy()
        if not np.isfinite(rows).all():
            raise DataError(
                "cache_features: a feature of this network is too large for float16; give "
                "--cache-features false"
            )
        return rows

    def _rows_at_once(self, pixels: Tensor, views: int) -> Tensor:
        images = self.network.normalize(pixels.to(self.device))
        seen = [images, images.flip(3)][:views]
        each = [self.layout.pack(trunk_features(self.network, one)) for one in seen]
        return torch.stack(each, dim=1).flatten(0, 1).to(torch.float16).cpu()
