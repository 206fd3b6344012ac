import numpy as np
import pytest
from PIL import Image

from exporter.cascade.networks.reduction import reduce_images
from offramp.bundle.preprocess import FILTERS
from offramp.bundle.values import Filter
from offramp.images.reduction import KERNELS


@pytest.mark.parametrize("kind", list(KERNELS))
@pytest.mark.parametrize("smaller", [56, 45, 40, 33])
def test_images_are_reduced_as_pillow_does_it(kind: Filter, smaller: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 56, 56, 3), dtype=np.uint8)
    found = reduce_images(pixels, smaller, kind)
    expected = [
        np.asarray(Image.fromarray(each).resize((smaller, smaller), FILTERS[kind]))
        for each in pixels
    ]
    different = np.abs(found.astype(int) - np.stack(expected))
    assert different.max() <= 2
    assert (different > 1).mean() < 1e-3
    assert (different > 0).mean() < 0.03
