"""The golden network: the MSDNet of the released code, rebuilt from its weights."""

from pathlib import Path

import numpy as np
import torch

from training.networks.backbones import build_network
from training.networks.multi_exit import MultiExitNetwork

FOLDER = Path(__file__).parents[1] / "golden"
BASE = np.load(FOLDER / "msdnet_slim_b050.npz")
VARIANTS = np.load(FOLDER / "msdnet_slim_variants.npz")
REROUTE = np.load(FOLDER / "feature_reroute.npz")

SLIM = {
    "exits": 3,
    "base": 2,
    "step": 1,
    "channels": 8,
    "growth": 8,
    "head_channels": 16,
    "head_dropout": 0.0,
}


def tensor(name: str) -> torch.Tensor:
    """Return an array of the base set."""
    return torch.from_numpy(BASE[name])


def golden_network() -> MultiExitNetwork:
    """Build our network with the golden weights and batch-norm buffers, which are in our order."""
    network = build_network("msdnet", SLIM, classes=10)
    names = [str(name) for name in BASE["names"]]
    for name, parameter in zip(names, network.parameters(), strict=True):
        parameter.data = tensor(f"param/{name}")
    for name, buffer in zip(buffer_names(), batch_norm_buffers(network), strict=True):
        buffer.copy_(tensor(f"buffer/{name}"))
    return network


def buffer_names() -> list[str]:
    """Return the names of the golden batch-norm buffers, in module order."""
    return [key.removeprefix("buffer/") for key in BASE.files if key.startswith("buffer/")]


def batch_norm_buffers(network: MultiExitNetwork) -> list[torch.Tensor]:
    """Return our batch-norm buffers, in module order."""
    return [b for name, b in network.named_buffers() if not name.startswith("normalize.")]
