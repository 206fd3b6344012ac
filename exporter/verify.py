"""Whether the exported graphs compute what the network does, one by one and in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor

from exporter.errors import VerificationError
from exporter.graph import CONFIDENCE, PROBABILITIES, StageGraph
from exporter.split import StageModule
from training.evaluate import predict
from training.network import MultiExitNetwork

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ChainOutput:
    """What every exit gave: probabilities [exits, N, classes], confidence [exits, N]."""

    probabilities: Array
    confidence: Array


class Chain:
    """The graphs in ONNX Runtime on the CPU, run one after another."""

    def __init__(self, graphs: Sequence[StageGraph]) -> None:
        self._graphs = graphs
        self._sessions = [
            ort.InferenceSession(g.serialized(), providers=["CPUExecutionProvider"]) for g in graphs
        ]

    def stage(self, k: int, given: Sequence[NDArray[np.generic]]) -> dict[str, Array]:
        """Outputs of stage k (from 0) by name."""
        names = [spec.name for spec in self._graphs[k].inputs]
        outputs = [o.name for o in self._sessions[k].get_outputs()]
        made = self._sessions[k].run(outputs, dict(zip(names, given, strict=True)))
        return dict(zip(outputs, made, strict=True))

    def run(self, pixels: Tensor, batch_size: int = 64) -> ChainOutput:
        """Every exit's answer to images uint8 [N, H, W, 3]."""
        batches = [self._run_batch(batch.numpy()) for batch in torch.split(pixels, batch_size)]
        return ChainOutput(
            np.concatenate([b.probabilities for b in batches], axis=1),
            np.concatenate([b.confidence for b in batches], axis=1),
        )

    def _run_batch(self, images: NDArray[np.generic]) -> ChainOutput:
        given: list[NDArray[np.generic]] = [images]
        probabilities, confidence = [], []
        for k, graph in enumerate(self._graphs):
            made = self.stage(k, given)
            given = [made[spec.name] for spec in graph.features]
            probabilities.append(made[PROBABILITIES])
            confidence.append(made[CONFIDENCE])
        return ChainOutput(np.stack(probabilities), np.stack(confidence))


@torch.no_grad()
def verify(
    network: MultiExitNetwork,
    modules: Sequence[StageModule],
    graphs: Sequence[StageGraph],
    pixels: Tensor,
    tolerance: float = 1e-4,
) -> float:
    """Compare graphs with torch on images uint8 [N, H, W, 3].

    Each graph alone is compared with its module, on torch's features, in batches of 1, 3 and
    16; then the chain of all graphs with the network itself.

    Returns:
        The largest absolute difference of a probability along the chain.

    Raises:
        VerificationError: an output differs by more than `tolerance` (features: relative to
            their largest value); names stage, output and difference.
    """
    chain = Chain(graphs)
    for size in (1, 3, 16):
        given: tuple[Tensor, ...] = (pixels[:size],)
        for k, (module, graph) in enumerate(zip(modules, graphs, strict=True)):
            made = module(*given)
            names = [*(s.name for s in graph.features), PROBABILITIES, CONFIDENCE]
            found = chain.stage(k, [t.numpy() for t in given])
            for name, tensor in zip(names, made, strict=True):
                where = f"stage {k + 1}, output {name}, batch of {size}"
                _compare(where, found[name], tensor.numpy(), tolerance)
            given = made[:-2]
    temperatures = torch.stack([module.temperature for module in modules])
    expected = torch.softmax(predict(network, pixels) / temperatures[:, None, None], dim=2).numpy()
    pairs = zip(chain.run(pixels).probabilities, expected, strict=True)
    return max(
        _compare(f"stage {k} in the chain, output {PROBABILITIES}", got, wanted, tolerance)
        for k, (got, wanted) in enumerate(pairs, 1)
    )


def _compare(where: str, found: Array, expected: Array, tolerance: float) -> float:
    if found.shape != expected.shape:
        raise VerificationError(f"{where}: shape {found.shape}, torch gives {expected.shape}")
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max()) / scale
    if not difference <= tolerance:  # so written, NaN fails
        raise VerificationError(
            f"{where}: differs from torch by {difference:.2e}, more than {tolerance:.0e}"
        )
    return difference
