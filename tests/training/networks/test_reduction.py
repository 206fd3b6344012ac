"""The reduction of images in a network: as Pillow reduces them, without its roundings."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from offramp.bundle.preprocess import FILTERS
from offramp.bundle.values import Filter
from training.networks.multi_exit import Normalize
from training.networks.reduction import Reduction


def pixels(size: int) -> Tensor:
    rng = np.random.default_rng(0)
    # without black and white: Pillow clips what bicubic overshoots
    return torch.from_numpy(rng.integers(64, 192, (2, size, size, 3), np.uint8))


@pytest.mark.parametrize("kind", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("size", "smaller"), [(56, 32), (32, 16), (20, 3)])
def test_images_are_reduced_as_pillow_does_it(kind: Filter, size: int, smaller: int) -> None:
    found = Reduction(size, smaller, kind)(pixels(size).permute(0, 3, 1, 2).float())
    expected = np.stack(
        [
            np.asarray(Image.fromarray(each).resize((smaller, smaller), FILTERS[kind]))
            for each in pixels(size).numpy()
        ]
    )
    assert found.shape == (2, 3, smaller, smaller)
    assert np.abs(found.permute(0, 2, 3, 1).numpy() - expected).max() < 1.5  # it rounds twice


def test_images_can_be_normalised_before_or_after() -> None:
    normalize, reduction = Normalize(), Reduction(32, 20, "bicubic")
    normalize.mean.copy_(torch.tensor([0.5, 0.4, 0.3]))
    normalize.std.copy_(torch.tensor([0.3, 0.2, 0.1]))
    before = reduction(normalize(pixels(32)))
    reduced = reduction(pixels(32).permute(0, 3, 1, 2).float())
    torch.testing.assert_close(normalize(reduced.permute(0, 2, 3, 1)), before, rtol=0, atol=1e-4)


def test_the_reduction_is_in_float32_also_where_the_network_is_not() -> None:
    reduction, images = Reduction(32, 20, "bilinear"), torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = reduction(images)
    assert torch.equal(found, reduction(images))


def test_images_of_the_first_epochs_are_reduced_in_proportion() -> None:
    found = Reduction(32, 16, "bilinear")(torch.ones(1, 3, 24, 24))
    assert found.shape == (1, 3, 12, 12)
    torch.testing.assert_close(found, torch.ones_like(found))


def test_a_checkpoint_has_no_matrices() -> None:
    assert not Reduction(32, 16, "bilinear").state_dict()
