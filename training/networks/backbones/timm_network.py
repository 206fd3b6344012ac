"""Any network of timm, by its name: `timm:convnext_tiny`.

timm is in the extra `timm`. Only what is built or read here imports it. Features are a list of one
tensor: maps [N, C, H, W] or [N, H, W, C], or tokens [N, tokens, C]. Surgery masks gradients: layers
of timm compute the whole backward pass, also of channels that are stopped.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from offramp.bounds import PositiveInt
from training.errors import RecipeError
from training.networks.backbones.timm_chain import Chain, chain_of, outputs_of
from training.networks.exits import ExitsConfig, exit_blocks, grouped, kept_blocks
from training.networks.flops import chain_flops
from training.networks.heads import TokenHead, map_head
from training.networks.multi_exit import Features, MultiExitNetwork, Pretraining, SingleTensorStage
from training.networks.pretrained import published_names
from training.surgery.feature_map import FeatureMap

PREFIX = "timm:"
# Errors for arguments that a network of timm does not take.
REFUSED = {
    "img_size": "shape.image_size: {name} reads images of every size; leave it out",
    "drop_rate": "shape.dropout: {name} has no dropout before its last layer; leave it out",
    "attn_drop_rate": "shape.attention_dropout: {name} has no attention; leave it out",
}


class TimmConfig(ExitsConfig):
    """The size of a network of timm, and its exits."""

    image_size: PositiveInt | None = Field(
        None,
        description="height and width of the images in pixels, for networks that are made for one "
        "size, as transformers are (null: as published)",
    )
    attention_dropout: float = Field(
        0.0, ge=0, lt=1, description="dropout of attention weights, for transformers"
    )

    def arguments(self) -> dict[str, float]:
        """Return the arguments of `timm.create_model` that are given."""
        given = {
            "img_size": self.image_size,
            "drop_rate": self.dropout,
            "attn_drop_rate": self.attention_dropout,
        }
        return {argument: value for argument, value in given.items() if value}


class MaskedStage(SingleTensorStage):
    """A stage of layers that read plain tensors alone."""

    def forward(self, features: Features) -> Features:
        """Map a list of one tensor to a list of one tensor."""
        return super().forward([_plain(x) for x in features])


class MaskedHead(nn.Module):
    """A head of layers that read plain tensors alone, with the channels in dimension 1 or -1."""

    def __init__(self, head: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.head = head
        self.channels_last = channels_last

    def forward(self, x: Tensor) -> Tensor:
        """Map features to logits [N, classes]."""
        x = _plain(x)
        logits: Tensor = self.head(x.permute(0, 3, 1, 2) if self.channels_last else x)
        return logits


def _plain(x: Tensor | FeatureMap) -> Tensor:
    return x.masked() if isinstance(x, FeatureMap) else x


def timm_network(name: str, config: TimmConfig, classes: int) -> MultiExitNetwork:
    """Build a network of timm with exits at ends of blocks. The last is the network's own head.

    Args:
        name: Name of the network in timm.
        config: Its exits.
        classes: Number of labels.

    Raises:
        RecipeError: timm is not installed, has no such network, or the network or its exits do not
            fit a chain of blocks.
    """
    with torch.device("cpu"):  # the values of the chain are checked, which meta has not
        network = _network(name, config, classes)
    return network.to(torch.get_default_device()).train()


def _network(name: str, config: TimmConfig, classes: int) -> MultiExitNetwork:
    model = created(name, config, num_classes=classes).eval()
    images = _sample(model, config)
    with torch.no_grad():
        chain = _chain(name, config, model, images)
        blocks = kept_blocks(config, chain.blocks)
        shapes = [made.shape for made in outputs_of(blocks, images)]
    places = exit_blocks(config, chain_flops(blocks, images.shape[-1]))
    last = getattr(model, "output_fmt", "NCHW") == "NHWC"
    whole = config.last_block is None
    ends = places[:-1] if whole else places
    heads = [_head(config, model, shapes[k - 1], classes, last=last) for k in ends]
    heads += [chain.tail] if whole else []
    stages = [MaskedStage(*stage) for stage in grouped(blocks, places)]
    maps = any(len(shape) == 4 for shape in shapes) and not last  # some end in blocks of tokens
    network = MultiExitNetwork(stages, heads, channel_dim=1 if maps else -1)
    network.pretraining = _pretraining(network, model, partial=not whole)
    return network


def _pretraining(network: MultiExitNetwork, model: Any, *, partial: bool) -> Pretraining:  # noqa: ANN401 (a network of timm)
    """Return the published names of the tensors that the network has of a network of timm."""
    names = published_names(network, [("", model)])
    classifier = model.pretrained_cfg.get("classifier") or ""
    # distilled networks have two
    classifiers = (classifier,) if isinstance(classifier, str) else classifier
    prefixes = tuple(f"{each}." for each in classifiers)
    last = (own for own, there in names.items() if there.startswith(prefixes))
    return Pretraining(names, frozenset(last), partial=partial)


@torch.no_grad()
def timm_blocks(name: str, config: TimmConfig) -> list[nn.Module]:
    """Build the trunk of a network of timm with fresh weights, as a chain of blocks.

    Raises:
        RecipeError: timm is not installed, has no such network, or it is no chain of blocks.
    """
    model = created(name, config).eval()
    return kept_blocks(config, _chain(name, config, model, _sample(model, config)).blocks)


def _chain(name: str, config: TimmConfig, model: nn.Module, images: Tensor) -> Chain:
    try:
        return chain_of(model, images)
    except (RuntimeError, AssertionError) as error:  # of the size, as published ones are read
        if config.image_size is None:
            raise
        size = config.image_size
        raise RecipeError(
            f"shape.image_size: {name} cannot read {size} x {size} pixels; give another size, or "
            "leave it out"
        ) from error


def _sample(model: nn.Module, config: TimmConfig) -> Tensor:
    """Return an image [1, 3, size, size] of the size that the network reads."""
    size = config.image_size or int(model.pretrained_cfg["input_size"][-1])  # type: ignore[index] # not in torch's stubs
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))


def _head(
    config: TimmConfig, model: nn.Module, shape: torch.Size, classes: int, *, last: bool
) -> nn.Module:
    if len(shape) == 3:
        prefix = int(getattr(model, "num_prefix_tokens", 0))
        pool = "token" if prefix and getattr(model, "global_pool", "token") == "token" else "mean"
        return TokenHead(
            shape[-1],
            classes,
            prefix=prefix,
            pool=pool,  # type: ignore[arg-type] # one of two literals
            dropout=config.dropout,
        )
    channels = shape[-1] if last else shape[1]
    head = map_head(config, channels, classes, nn.SiLU())
    return MaskedHead(head, channels_last=last)


def created(name: str, config: TimmConfig, **options: object) -> Any:  # noqa: ANN401 (a network of timm)
    """Build a network of timm by `timm.create_model`, with these options and the config's.

    Raises:
        RecipeError: timm is not installed, has no such network or weights, or the network has no
            such option.
    """
    timm = timm_package()
    if name.partition(".")[0] not in timm.list_models():
        raise RecipeError(
            f"--backbone: timm {timm.__version__} has no network {name}; see timm.list_models()"
        )
    try:
        return timm.create_model(name, **options, **config.arguments())
    except (RuntimeError, TypeError) as error:
        if not (refusal := _refusal(timm, name, error)):
            raise
        raise RecipeError(refusal) from error


def _refusal(timm: ModuleType, name: str, error: RuntimeError | TypeError) -> str | None:
    """Return the text for an error of `timm.create_model` that an option explains, if one does."""
    if isinstance(error, TypeError):
        refused = (text for argument, text in REFUSED.items() if f"'{argument}'" in str(error))
        return next((text.format(name=name) for text in refused), None)
    if "pretrained tag" not in str(error):
        return None
    base = name.partition(".")[0]
    known = ", ".join(timm.list_pretrained(f"{base}.*")) or "none"
    return f"--backbone: {name} has an unknown tag of weights; those of {base} are: {known}"


def timm_package() -> ModuleType:
    """Import timm.

    Raises:
        RecipeError: It is not installed, or its torchvision does not fit torch.
    """
    try:
        return import_module("timm")
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        raise RecipeError(
            f"--backbone: timm cannot be imported ({error}); pip install 'offramp[timm]'"
        ) from error
