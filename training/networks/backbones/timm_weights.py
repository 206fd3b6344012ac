"""Pretrained weights of a network of timm: from its hub, by the hub's cache, or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from training.errors import RecipeError
from training.networks.backbones.timm_network import TimmConfig, created, timm_package
from training.networks.weights import UNKNOWN_LICENCE, Origin, Pretrained
from training.networks.weights import read_weights as read_file

FILTERS = ("box", "bilinear", "bicubic", "lanczos")


def timm_weights(name: str, config: TimmConfig, source: str) -> Pretrained:
    """Read weights from timm's hub, through its cache, or from a file.

    Args:
        name: Name of the network in timm.
        config: Size of the images. Embeddings of positions are interpolated to it.
        source: `hub`, or the path of a file with the tensors as timm names them.

    Raises:
        RecipeError: timm is not installed, or the weights cannot be read.
    """
    if source == "package":
        raise RecipeError("--weights: no package has weights of timm; give hub or a file")
    cfg = created(name, config).pretrained_cfg
    if source != "hub":
        found = read_file(source, _origin(cfg))
        return Pretrained(_resampled(found.tensors, name, config), found.record)
    try:
        tensors = created(name, config, pretrained=True).state_dict()
    except Exception as error:  # of the hub's client, which has many
        raise RecipeError(_unavailable(name, error)) from error
    source = f"timm, {cfg.get('hf_hub_id') or name}"
    return Pretrained(tensors, _origin(cfg).record(source, _digest(tensors)))


def _unavailable(name: str, error: Exception) -> str:
    """Return a line that says that the hub's weights cannot be loaded, and what to do."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    cache = import_module("huggingface_hub").constants.HF_HUB_CACHE
    return (
        f"--weights: timm cannot load {name} from its hub, and the cache {cache} does not have it "
        f"({reason}); connect to a network once, copy the cache from another machine (HF_HOME "
        "names its folder), or give the path of a file"
    )


def _origin(cfg: Mapping[str, Any]) -> Origin:
    """Return how timm says that the weights were trained."""
    interpolation = cfg.get("interpolation")
    return Origin(
        package=None,
        licence=cfg.get("license") or UNKNOWN_LICENCE,
        size=int(cfg["input_size"][-1]),
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
        filter=interpolation if interpolation in FILTERS else "bicubic",
        margin=float(cfg.get("crop_pct") or 1.0),
    )


def _resampled(tensors: Mapping[str, Tensor], name: str, config: TimmConfig) -> dict[str, Tensor]:
    """Return the tensors with the embedding of positions for the size of the images."""
    found, model = dict(tensors), created(name, config)
    wanted = model.state_dict().get("pos_embed")
    given = found.get("pos_embed")
    if wanted is not None and given is not None and given.shape != wanted.shape:
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        found["pos_embed"] = timm_package().layers.resample_abs_pos_embed(
            given, new_size=list(model.patch_embed.grid_size), num_prefix_tokens=prefix
        )
    return found


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
