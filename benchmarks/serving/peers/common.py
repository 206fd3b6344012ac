"""Code common to all peers, so that only the server differs: decoding, weights, settings, JSON.

Variables of a peer's environment name its bundle and its graph.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.serving.peers.settings import BUNDLE, GRAPH
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.stage_files import read_graph
from serving.engine.policy import resolve
from serving.images.decoder import decode

MAX_PIXELS = 25_000_000
HOST = "127.0.0.1"
TOP = 5

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]


def setting(name: str) -> int:
    """Return a whole number from the environment."""
    return int(os.environ[name])


def session(graph: str | bytes) -> ort.InferenceSession:
    """Load a graph that runs on the caller's thread only, as in our runtime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


class Decoder:
    """Converts image files to inputs of the network, and its outputs to JSON."""

    def __init__(self) -> None:
        self.folder = Path(os.environ[BUNDLE])
        self.manifest: Manifest = read_manifest(self.folder)

    def decode(self, file: bytes) -> Image:
        """Decode an image file to uint8 [H, W, 3], with our server's code."""
        return decode(file, self.manifest.input, MAX_PIXELS)

    def encode(self, probabilities: Floats, stage: int) -> bytes:
        """Return our server's JSON without timings.

        Args:
            probabilities: Probability of each class, float32 [classes].
            stage: Exit of the answer, from 0.
        """
        order = np.argsort(-probabilities, kind="stable")[:TOP].tolist()
        top: list[dict[str, Any]] = [
            {
                "label": self.manifest.labels[i],
                "index": i,
                "probability": round(float(probabilities[i]), 6),
            }
            for i in order
        ]
        full = self.manifest.full_flops
        flops = (
            full if stage == self.manifest.exits - 1 else self.manifest.stages[stage].flops_to_exit
        )
        answer = {
            **top[0],
            "confidence": top[0]["probability"],
            "top_k": top,
            "exit": stage + 1,
            "exits": self.manifest.exits,
            "flops": flops,
            "flops_share": round(flops / full, 6),
        }
        model = {"name": self.manifest.name, "version": self.manifest.version}
        return json.dumps({"model": model, "answers": [answer]}).encode()


class FullDepth(Decoder):
    """Whole network in one graph, without early exits."""

    def __init__(self) -> None:
        super().__init__()
        self._session = session(os.environ[GRAPH])

    def run(self, images: Sequence[Image]) -> list[bytes]:
        """Return the answers to a batch."""
        (probabilities,) = self._session.run(None, {"image": np.stack(images)})
        return [self.encode(row, self.manifest.exits - 1) for row in probabilities]

    def answer(self, file: bytes) -> bytes:
        """Return the answer to one image file."""
        return self.run([self.decode(file)])[0]


class EarlyExit(Decoder):
    """Stages one after another for one image, until a confidence reaches its threshold."""

    def __init__(self) -> None:
        super().__init__()
        graphs = [read_graph(self.folder, stage) for stage in self.manifest.stages]
        self._sessions = [session(graph) for graph in graphs]

    def answer(self, file: bytes, budget: str) -> bytes:
        """Return the answer to one image file."""
        stages = self.manifest.stages
        known: dict[str, NDArray[Any]] = {stages[0].inputs[0].name: self.decode(file)[None]}
        for k, threshold in enumerate(self._thresholds(budget)):
            inputs = {spec.name: known[spec.name] for spec in stages[k].inputs}
            names = ["probabilities", "confidence", *(spec.name for spec in stages[k].features)]
            probabilities, confidence, *features = self._sessions[k].run(names, inputs)
            if confidence[0] >= threshold or k == len(stages) - 1:
                return self.encode(probabilities[0], k)
            known |= dict(zip(names[2:], features, strict=True))
        raise AssertionError("every image leaves at the last exit")

    @cache  # noqa: B019  one object per process
    def _thresholds(self, budget: str) -> tuple[float, ...]:
        return resolve(self.manifest, budget).thresholds
