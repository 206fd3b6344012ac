"""Whether the exported graphs compute what the network does, one by one and in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from exporter.errors import VerificationError
from exporter.graph import CONFIDENCE, IMAGE, PROBABILITIES, StageGraph
from exporter.stage_modules import StageModule
from training.networks.multi_exit import MultiExitNetwork
from training.networks.predict import predict

Array = NDArray[np.float32]
BATCHES = (1, 3, 16)
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class ChainOutput:
    """What every exit gave: probabilities [exits, N, classes], confidence [exits, N]."""

    probabilities: Array
    confidence: Array


class Chain:
    """The graphs in ONNX Runtime on the CPU, run one after another."""

    def __init__(self, graphs: Sequence[StageGraph]) -> None:
        self._inputs = [[spec.name for spec in graph.inputs] for graph in graphs]
        self._sessions = [
            ort.InferenceSession(g.serialized(), providers=["CPUExecutionProvider"]) for g in graphs
        ]

    def stage(self, k: int, known: Mapping[str, NDArray[np.generic]]) -> dict[str, Array]:
        """Outputs of stage k (from 0) by name, of all inputs that are known."""
        outputs = [output.name for output in self._sessions[k].get_outputs()]
        given = {name: known[name] for name in self._inputs[k]}
        return dict(zip(outputs, self._sessions[k].run(outputs, given), strict=True))

    def run(self, pixels: Tensor, batch_size: int = 64) -> ChainOutput:
        """Every exit's answer to images uint8 [N, H, W, 3]."""
        batches = [self._run_batch(batch.numpy()) for batch in torch.split(pixels, batch_size)]
        return ChainOutput(
            np.concatenate([b.probabilities for b in batches], axis=1),
            np.concatenate([b.confidence for b in batches], axis=1),
        )

    def _run_batch(self, images: NDArray[np.generic]) -> ChainOutput:
        known: dict[str, NDArray[np.generic]] = {IMAGE: images}
        probabilities, confidence = [], []
        for k in range(len(self._sessions)):
            made = self.stage(k, known)
            known |= made
            probabilities.append(made[PROBABILITIES])
            confidence.append(made[CONFIDENCE])
        return ChainOutput(np.stack(probabilities), np.stack(confidence))


@torch.no_grad()
def verify_blocks(
    modules: Sequence[StageModule], blocks: Sequence[StageGraph], pixels: Tensor
) -> None:
    """Compare each graph alone with its module, on torch's features of images uint8 [N, H, W, 3].

    Raises:
        VerificationError: an output differs by more than TOLERANCE, relative to its largest value
            where that is above 1; names stage, output and difference.
    """
    chain = Chain(blocks)
    for size in BATCHES:
        given: tuple[Tensor, ...] = (pixels[:size],)
        for k, (module, block) in enumerate(zip(modules, blocks, strict=True)):
            made = module(*given)
            names = [*(spec.name for spec in block.features), PROBABILITIES, CONFIDENCE]
            inputs = zip(block.inputs, given, strict=True)
            found = chain.stage(k, {spec.name: tensor.numpy() for spec, tensor in inputs})
            for name, tensor in zip(names, made, strict=True):
                where = f"stage {k + 1}, output {name}, batch of {size}"
                _compare(where, found[name], tensor.numpy())
            given = made[:-2]


@torch.no_grad()
def verify_chain(
    network: MultiExitNetwork,
    temperatures: Sequence[float],
    stages: Sequence[StageGraph],
    pixels: Tensor,
) -> float:
    """Compare what all graphs in a row say of images uint8 [N, H, W, 3] with the network.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        VerificationError: it is more than TOLERANCE; names exit and difference.
    """
    chain = Chain(stages)
    scale = torch.tensor(temperatures)[:, None, None]
    expected = torch.softmax(predict(network, pixels) / scale, dim=2).numpy()
    worst = 0.0
    for size in (*BATCHES, len(pixels)):
        found = chain.run(pixels[:size]).probabilities
        for k, (got, wanted) in enumerate(zip(found, expected[:, :size], strict=True), 1):
            where = f"exit {k} in the chain, output {PROBABILITIES}"
            worst = max(worst, _compare(where, got, wanted))
    return worst


def _compare(where: str, found: Array, expected: Array) -> float:
    if found.shape != expected.shape:
        raise VerificationError(f"{where}: shape {found.shape}, torch gives {expected.shape}")
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max()) / scale
    if not difference <= TOLERANCE:  # so written, NaN fails
        raise VerificationError(
            f"{where}: differs from torch by {difference:.2e}, more than {TOLERANCE:.0e}"
        )
    return difference
