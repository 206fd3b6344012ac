"""Compare the outputs of exported graphs with the network's, one by one and as a chain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from exporter.errors import VerificationError
from exporter.graph import CONFIDENCE, IMAGE, PROBABILITIES, StageGraph
from exporter.stage_modules import StageModule
from offramp.bundle.graphs import SCORE
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import predict

Array = NDArray[np.float32]
BATCHES = (1, 3, 16)
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class ChainOutput:
    """Outputs of every exit: probabilities [exits, N, classes], confidence [exits, N]."""

    probabilities: Array
    confidence: Array

    @property
    def classes(self) -> NDArray[np.int64]:
        """Return the likeliest class of every exit, int64 [exits, N]."""
        classes: NDArray[np.int64] = self.probabilities.argmax(axis=2)
        return classes


class Chain:
    """Sessions of ONNX Runtime on the CPU, one for each graph, run one after another."""

    def __init__(self, graphs: Sequence[StageGraph]) -> None:
        self._inputs = [[spec.name for spec in graph.inputs] for graph in graphs]
        self._sessions = [
            ort.InferenceSession(g.serialized(), providers=["CPUExecutionProvider"]) for g in graphs
        ]

    def stage(self, k: int, known: Mapping[str, NDArray[np.generic]]) -> dict[str, Array]:
        """Run stage k (from 0) and return its outputs by name. `known` has at least its inputs."""
        outputs = [output.name for output in self._sessions[k].get_outputs()]
        inputs = {name: known[name] for name in self._inputs[k]}
        return dict(zip(outputs, self._sessions[k].run(outputs, inputs), strict=True))

    def run(self, pixels: Tensor, batch_size: int = 64) -> ChainOutput:
        """Return the outputs of every exit for images uint8 [N, H, W, 3]."""
        return ChainOutput(*self.outputs(pixels, (PROBABILITIES, CONFIDENCE), batch_size))

    def outputs(self, pixels: Tensor, names: Sequence[str], batch_size: int = 64) -> list[Array]:
        """Return outputs of all exits by name, each [exits, N, ...], for images [N, H, W, 3]."""
        parts = [self._run_batch(batch.numpy(), names) for batch in torch.split(pixels, batch_size)]
        return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]

    def _run_batch(self, images: NDArray[np.generic], names: Sequence[str]) -> list[Array]:
        known: dict[str, NDArray[np.generic]] = {IMAGE: images}
        found: list[list[Array]] = [[] for _ in names]
        for k in range(len(self._sessions)):
            outputs = self.stage(k, known)
            known |= outputs
            for values, name in zip(found, names, strict=True):
                values.append(outputs[name])
        return [np.stack(values) for values in found]


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
        tensors: tuple[Tensor, ...] = (pixels[:size],)
        for k, (module, block) in enumerate(zip(modules, blocks, strict=True)):
            expected = module(*tensors)
            names = [*(spec.name for spec in block.features), PROBABILITIES, CONFIDENCE]
            inputs = zip(block.inputs, tensors, strict=True)
            actual = chain.stage(k, {spec.name: tensor.numpy() for spec, tensor in inputs})
            for name, tensor in zip(names, expected, strict=True):
                where = f"stage {k + 1}, output {name}, batch of {size}"
                _compare(where, actual[name], tensor.numpy())
            tensors = expected[:-2]


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
