"""Costs of each exit: flops for one image, and parameters.

Flops are multiply-adds. The convention `products` counts those of convolutions and matrix
products alone. All our figures use it. torch's counter gives 2 for each multiply-add. This module
is the only place that halves it. The convention `papers` is the count in the tables of the MSDNet
and DFS papers. It adds the elements that each ReLU reads, the elements in the windows of each
pool, and the biases of linear layers (not of convolutions). Both conventions ignore batch norm,
concatenation and dropout.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from training.networks.multi_exit import AveragePool, Features, GlobalAveragePool, MultiExitNetwork

Convention = Literal["products", "papers"]


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of each stage and of each exit head, in order of depth."""

    stages: tuple[int, ...]
    heads: tuple[int, ...]

    @property
    def cumulative(self) -> tuple[int, ...]:
        """Cost up to each exit, with the heads of all exits before it."""
        return tuple(accumulate(map(sum, zip(self.stages, self.heads, strict=True))))

    @property
    def alone(self) -> tuple[int, ...]:
        """Cost up to each exit as if it were the only exit."""
        depths = accumulate(self.stages)
        return tuple(depth + head for depth, head in zip(depths, self.heads, strict=True))


def flops_to_exits(network: MultiExitNetwork, size: int) -> tuple[int, ...]:
    """Return the products spent up to each exit (see `flop_costs`)."""
    return flop_costs(network, size).cumulative


@torch.no_grad()
def flop_costs(network: MultiExitNetwork, size: int, convention: Convention = "products") -> Costs:
    """Count the flops of every stage and head for one image.

    A reduction of the image does not count.

    Args:
        network: Network on any device, `meta` included. It keeps its mode.
        size: Height and width of the image, in pixels.
        convention: Operations that count (see the module).
    """
    image, features = next(network.parameters()).new_zeros(1, 3, size, size), Features()
    stages, heads = [], []
    training = network.training
    network.eval()
    for k, (stage, head) in enumerate(zip(network.stages, network.heads, strict=True)):
        inputs = network.inputs_of(k, image, features)
        with _counting(stage, convention) as of_stage:
            features = stage(inputs)
        with _counting(head, convention) as of_head:
            head(features[-1])
        stages.append(of_stage.total)
        heads.append(of_head.total)
    network.train(training)
    return Costs(tuple(stages), tuple(heads))


@torch.no_grad()
def chain_flops(modules: Sequence[nn.Module], size: int) -> list[int]:
    """Count the products of each module of a chain for one image. The modules keep their mode.

    Args:
        modules: Each maps the output of the one before it. The first reads [1, 3, size, size].
        size: Height and width of the image, in pixels.
    """
    chain = nn.ModuleList(modules)
    modes = [module.training for module in chain.modules()]
    x, counts = next(chain.parameters()).new_zeros(1, 3, size, size), []
    chain.eval()
    for module in chain:
        with _counting_products() as count:
            x = module(x)
        counts.append(count.total)
    for module, mode in zip(chain.modules(), modes, strict=True):
        module.training = mode
    return counts


def flops_of_step(network: MultiExitNetwork, size: int) -> tuple[int, int]:
    """Count the products of a training step for one image: forward, and backward with surgery.

    Args:
        network: Network with its surgery, on any device, `meta` included. It does not change.
        size: Height and width of the image, in pixels.
    """
    twin = deepcopy(network).eval()
    image = next(twin.parameters()).new_zeros(1, 3, size, size)
    with _counting_products() as forward:
        logits = twin(image)
    with _counting_products() as reading:
        for start in twin.starts:
            twin.inputs_of(start, image, [])
    with _counting_products() as backward:
        torch.cat(logits).sum().backward()
    return forward.total - reading.total, backward.total


def parameter_costs(network: MultiExitNetwork) -> Costs:
    """Count the parameters of every stage and head, without those of a stage before it."""
    known: set[nn.Parameter] = set()
    stages = []
    for stage in network.stages:
        own = set(stage.parameters()) - known
        stages.append(sum(p.numel() for p in own))
        known |= own
    return Costs(
        tuple(stages), tuple(sum(p.numel() for p in head.parameters()) for head in network.heads)
    )


@dataclass(slots=True)
class _Count:
    total: int = 0


@contextmanager
def _counting_products() -> Iterator[_Count]:
    """Count the products of all operations inside the context."""
    count = _Count()
    # attention as plain products: torch's counter does not know every fused kernel
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield count
    count.total += counter.get_total_flops() // 2


@contextmanager
def _counting(module: nn.Module, convention: Convention) -> Iterator[_Count]:
    """Count the flops of the next forward pass of `module`."""
    counted = module.modules() if convention == "papers" else ()
    with _counting_products() as count:

        def add(part: nn.Module, given: tuple[Any, ...], made: Tensor) -> None:
            count.total += _beside_products(part, given[0], made)

        hooks = [m.register_forward_hook(add) for m in counted if not any(m.children())]
        try:
            yield count
        finally:
            for hook in hooks:
                hook.remove()


def _beside_products(module: nn.Module, given: Tensor, made: Tensor) -> int:
    match module:
        case nn.ReLU() | AveragePool() | GlobalAveragePool():
            return given.numel()
        case nn.MaxPool2d():
            assert isinstance(module.kernel_size, int)
            return made.numel() * module.kernel_size**2
        case nn.Linear(bias=Tensor()):
            return made.numel()
    return 0
