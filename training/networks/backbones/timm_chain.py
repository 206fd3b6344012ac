"""A network of timm as a chain of blocks, and what follows the last block.

Source: github.com/huggingface/pytorch-image-models. Nothing here names a family of networks. Two
forms are known: convolutional or windowed networks, with blocks in children such as `stages`,
`layer1` or `blocks`, and transformers with an embedding of tokens. `chain_of` checks that the chain
computes what the network computes, so a network of another form is refused, not cut wrongly.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.errors import RecipeError

BLOCKS = re.compile(r"(blocks|stages|layers|features|layer\d+|s\d+|stages_\d+)")
EMBEDDING = ("patch_embed", "pos_drop", "patch_drop", "norm_pre")
TOLERANCE = 1e-4  # relative to the largest output
NEAR_ZERO = 1e-2  # largest value of a parameter that is drawn for the check
DRAWN = 0.2  # deviation of its values


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A network in parts: blocks, and the first includes the stem, and the rest."""

    blocks: list[nn.Module]
    tail: nn.Module


class TokenEmbedding(nn.Module):
    """Image to tokens, by the parts of a transformer before its blocks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = _partial(model, EMBEDDING, parameters=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, 3, H, W] to [N, tokens, width]."""
        model = self.model
        x = model._pos_embed(model.patch_embed(x))  # type: ignore[operator] # noqa: SLF001 (timm has no other name for it)
        out: Tensor = model.norm_pre(model.patch_drop(x))  # type: ignore[operator] # modules of timm
        return out


class TokenTail(nn.Module):
    """Tokens to logits, by the parts of a transformer after its blocks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        others = [name for name, _ in model.named_children() if name not in (*EMBEDDING, "blocks")]
        self.model = _partial(model, others, parameters=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, tokens, width] to logits [N, classes]."""
        out: Tensor = self.model.forward_head(self.model.norm(x))  # type: ignore[operator] # modules of timm
        return out


def chain_of(model: nn.Module, images: Tensor) -> Chain:
    """Cut a network into its blocks. The parts share their tensors with it.

    Args:
        model: Network of timm in eval mode.
        images: Some images [N, 3, H, W], to check the chain.

    Raises:
        RecipeError: The network is not a chain of blocks of a known form.
    """
    with _without_zeros(model):
        expected = model(images)
        for fine in (True, False):
            chain = _tokens(model) if hasattr(model, "_pos_embed") else _maps(model, fine=fine)
            if chain is not None and _equal(chain, images, expected):
                return chain
    raise RecipeError(
        f"--backbone: {type(model).__name__} is not a chain of blocks that can be cut into stages; "
        "choose another network of timm"
    )


@contextmanager
def _without_zeros(model: nn.Module) -> Iterator[None]:
    """Give parameters that start near 0 other values inside the context.

    With scales of 1e-5 and positions of 0, a chain with its parts in another order would seem to
    compute the same.
    """
    near = [p for p in model.parameters() if float(p.abs().max()) < NEAR_ZERO]
    before = [p.detach().clone() for p in near]
    rng = torch.Generator().manual_seed(0)
    for p in near:
        p.normal_(0, DRAWN, generator=rng)
    try:
        yield
    finally:
        for p, value in zip(near, before, strict=True):
            p.copy_(value)


def _equal(chain: Chain, images: Tensor, expected: Tensor) -> bool:
    try:
        made = chain.tail(nn.Sequential(*chain.blocks)(images))
    except (RuntimeError, TypeError, AttributeError, ValueError):  # a module with other inputs
        return False
    scale = TOLERANCE * max(1.0, float(expected.abs().max()))
    return made.shape == expected.shape and bool((made - expected).abs().max() <= scale)


def _tokens(model: nn.Module) -> Chain | None:
    blocks = getattr(model, "blocks", None)
    if not isinstance(blocks, nn.Sequential):
        return None
    first, *others = blocks.children()
    return Chain([nn.Sequential(TokenEmbedding(model), first), *others], TokenTail(model))


def _maps(model: nn.Module, *, fine: bool) -> Chain | None:
    """Return the chain of a network whose trunk is a sequence of its children."""
    children = dict(model.named_children())
    ends = [k for k, name in enumerate(children, 1) if BLOCKS.fullmatch(name)]
    if not ends:
        return None
    trunk = list(children)[: ends[-1]]
    parts = (part for name in trunk for part in _parts(name, children[name], fine=fine))
    blocks = _joined(parts)
    tail = _partial(model, list(children)[ends[-1] :], parameters=True)
    tail._modules |= {name: nn.Identity() for name in trunk}  # noqa: SLF001 (add_module refuses a name that the class has)
    return Chain(blocks, tail)


def _joined(parts: Iterable[tuple[nn.Module, bool]]) -> list[nn.Module]:
    """Return the blocks of the parts in order, each with True if a block ends after it."""
    blocks: list[nn.Module] = []
    before: list[nn.Module] = []  # layers that belong to the next block
    for module, ends_block in parts:
        before.append(module)
        if ends_block:
            blocks.append(before[0] if len(before) == 1 else nn.Sequential(*before))
            before = []
    return blocks


def _parts(name: str, child: nn.Module, *, fine: bool) -> Iterator[tuple[nn.Module, bool]]:
    """Yield the parts of a child in order, each with True if a block ends after it."""
    if not BLOCKS.fullmatch(name):
        yield child, False
        return
    parts = list(child.named_children())
    if not fine:
        stages = type(child) is nn.Sequential and any(len(list(p.children())) for _, p in parts)
        yield from ((part, True) for _, part in parts) if stages else ((child, True),)
        return
    for part_name, part in parts:
        yield from _fine_parts(part_name, part)


def _fine_parts(name: str, part: nn.Module) -> Iterator[tuple[nn.Module, bool]]:
    """Yield the parts of a stage in order, or the part itself if it is not a stage."""
    inner = dict(part.named_children())
    if type(part) is nn.Sequential and name.isdigit():  # a stage of blocks
        yield from ((block, True) for block in part)
    elif isinstance(inner.get("blocks"), nn.Sequential):  # a stage with a downsampling
        for key, module in inner.items():
            is_blocks = key == "blocks"
            yield from (
                ((each, True) for each in module.children()) if is_blocks else ((module, False),)
            )
    else:
        yield part, True


def _partial(model: nn.Module, names: Collection[str], *, parameters: bool) -> nn.Module:
    """Return a copy of a network with some of its children, which it shares."""
    twin = copy.copy(model)
    twin.__dict__ = dict(model.__dict__)
    twin._modules = {name: each for name, each in model.named_children() if name in names}  # noqa: SLF001 (a module without some of its children)
    if not parameters:
        twin._parameters = {}  # noqa: SLF001 (as above)
    return twin


@torch.no_grad()
def outputs_of(blocks: list[nn.Module], images: Tensor) -> Iterator[Tensor]:
    """Yield the output of each block of a chain."""
    x = images
    for block in blocks:
        x = block(x)
        yield x
