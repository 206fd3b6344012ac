"""Compare the outputs of exported graphs with the network's, one by one and as a chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from exporter.errors import VerificationError
from exporter.network.stage_modules import StageModule, inputs_of
from exporter.stages.graph import CONFIDENCE, PROBABILITIES, StageGraph
from exporter.stages.runner import Array, Chain
from offramp.bundle.graphs import SCORE
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import predict

BATCHES = (1, 3, 16)
TOLERANCE = 1e-4


@torch.no_grad()
def verify_blocks(
    modules: Sequence[StageModule], blocks: Sequence[StageGraph], pixels: Tensor
) -> None:
    """Compare each graph with its module, on torch's features of images uint8 [N, H, W, 3].

    Raises:
        VerificationError: An output differs by more than TOLERANCE, relative to its largest value
            if that is above 1. The text names stage, output and difference.
    """
    chain = Chain(blocks)
    for size in BATCHES:
        features: tuple[Tensor, ...] = ()
        for k, (module, block) in enumerate(zip(modules, blocks, strict=True)):
            tensors = inputs_of(module, pixels[:size], features)
            expected = module(*tensors)
            names = [*(spec.name for spec in block.features), PROBABILITIES, CONFIDENCE]
            inputs = zip(block.inputs, tensors, strict=True)
            actual = chain.stage(k, {spec.name: tensor.numpy() for spec, tensor in inputs})
            for name, tensor in zip(names, expected, strict=True):
                where = f"stage {k + 1}, output {name}, batch of {size}"
                _compare(where, actual[name], tensor.numpy())
            features = expected[:-2]


@torch.no_grad()
def verify_chain(
    network: MultiExitNetwork,
    temperatures: Sequence[float],
    stages: Sequence[StageGraph],
    pixels: Tensor,
) -> float:
    """Compare the chain of all graphs with the network on images uint8 [N, H, W, 3].

    Returns:
        The largest absolute difference of a probability.

    Raises:
        VerificationError: It is more than TOLERANCE. The text names exit and difference.
    """
    chain = Chain(stages)
    scale = torch.tensor(temperatures)[:, None, None]
    expected = torch.softmax(predict(network, pixels) / scale, dim=2).numpy()
    worst = 0.0
    for size in (*BATCHES, len(pixels)):
        actual = chain.run(pixels[:size]).probabilities
        for k, pair in enumerate(zip(actual, expected[:, :size], strict=True), 1):
            where = f"exit {k} in the chain, output {PROBABILITIES}"
            worst = max(worst, _compare(where, *pair))
    return worst


@torch.no_grad()
def verify_scores(
    network: MultiExitNetwork,
    temperatures: Sequence[float],
    stages: Sequence[StageGraph],
    pixels: Tensor,
    score: Callable[[Tensor], Tensor],
) -> None:
    """Compare the scores of the chain with the network's on images uint8 [N, H, W, 3].

    Args:
        network: The network.
        temperatures: Temperature of each exit.
        stages: The stages, with a score at each exit.
        pixels: The images.
        score: Function from logits divided by the temperature, [..., classes], to scores [...].

    Raises:
        VerificationError: A score differs by more than TOLERANCE, relative to the largest. The
            text names exit and difference.
    """
    scale = torch.tensor(temperatures)[:, None, None]
    expected = score(predict(network, pixels) / scale).numpy()
    (actual,) = Chain(stages).outputs(pixels, [SCORE])
    for k, pair in enumerate(zip(actual, expected, strict=True), 1):
        _compare(f"exit {k} in the chain, output {SCORE}", *pair)


def _compare(where: str, actual: Array, expected: Array) -> float:
    if actual.shape != expected.shape:
        raise VerificationError(f"{where}: shape {actual.shape}, torch gives {expected.shape}")
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(actual - expected).max()) / scale
    if not difference <= TOLERANCE:  # written like this, NaN fails too
        raise VerificationError(
            f"{where}: differs from torch by {difference:.2e}, more than {TOLERANCE:.0e}"
        )
    return difference
