"""Graphs that are ready to run: optimised for this CPU, cut, with their weights beside them.

To make them takes most of the time of a load, to open their sessions little. So with several
workers one process makes them, in memory that is sealed: nothing can change it any more. The
workers open their sessions on it, and share its weights.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import pickle
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import ModelProto

from offramp.bundle.manifest import TensorSpec
from serving.runtime.session import ALIGNMENT, open_by_names, ort_values
from serving.runtime.stage import Stage, Stages

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_LENGTH_BYTES = 8  # of the head, before it


class UnsealedError(OSError):
    """The memory is not sealed, so that what was checked could still change."""


@dataclass(frozen=True, slots=True)
class ReadyGraph:
    """A graph that runs as it is.

    Attributes:
        data: The graph, without the values of its large weights.
        weights: Names of those.
    """

    data: bytes
    weights: tuple[str, ...]

    @classmethod
    def of(cls, model: ModelProto, weights: Container[str]) -> Self:
        """Return a graph that has only the shapes of these weights."""
        names = tuple(each.name for each in model.graph.initializer if each.name in weights)
        return cls(model.SerializeToString(), names)


@dataclass(frozen=True, slots=True)
class ReadyStage:
    """The graphs of a stage. The attributes are those of `Stage`."""

    whole: ReadyGraph
    trunk: ReadyGraph | None
    inputs: tuple[TensorSpec, ...]
    features: tuple[TensorSpec, ...]
    exit: tuple[str, ...]

    def open(self, weights: Mapping[str, ort.OrtValue]) -> Stage:
        """Open the sessions of the stage, which use these weights."""
        whole, trunk = (
            each and open_by_names(each.data, each.weights, weights)
            for each in (self.whole, self.trunk)
        )
        assert whole is not None
        values = tuple(weights.values())
        return Stage(whole, trunk, self.inputs, self.features, self.exit, values)


@dataclass(frozen=True, slots=True)
class ReadyNetwork:
    """The graphs of a network.

    Attributes:
        stages: Its stages.
        whole: All of them as one graph, without the earlier heads. `None`: there is none.
        weights: Weights that all of these use, by name.
    """

    stages: tuple[ReadyStage, ...]
    whole: ReadyStage | None
    weights: Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class ReadyGraphs:
    """The graphs of a bundle.

    Attributes:
        networks: Its networks. Of the last one, `whole` is the whole network.
        structure: As that of `Stages`.
        key: All that they depend on.
    """

    networks: Sequence[ReadyNetwork]
    structure: str | None = None
    key: Hashable = None

    def open(self) -> Stages:
        """Open all sessions."""
        stages, whole_network = list[Stage](), None
        for network in self.networks:
            weights = ort_values(network.weights)
            stages += [each.open(weights) for each in network.stages]
            whole_network = None if network.whole is None else network.whole.open(weights)
        return Stages(stages, whole_network, self.structure)


def write_graphs(graphs: ReadyGraphs, memory: int) -> None:
    """Write graphs into memory (`os.memfd_create`) and seal it.

    Raises:
        OSError: There is not so much memory.
    """
    buffers = list[pickle.PickleBuffer]()
    data = pickle.dumps(graphs, pickle.HIGHEST_PROTOCOL, buffer_callback=buffers.append)
    parts = [buffer.raw() for buffer in buffers]
    head = pickle.dumps((data, [part.nbytes for part in parts]))
    with open(memory, "wb", closefd=False) as file:
        file.write(len(head).to_bytes(_LENGTH_BYTES) + head)
        for part in parts:
            file.seek(_aligned(file.tell()))
            file.write(part)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)


def read_graphs(path: Path) -> ReadyGraphs:
    """Return graphs from sealed memory of this server. Their weights stay in it.

    Args:
        path: The memory as a file (`/proc/PID/fd/NUMBER`).

    Raises:
        UnsealedError: It is not sealed.
        OSError: It cannot be read.
    """
    memory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if fcntl.fcntl(memory, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise UnsealedError(f"{path} is not sealed")
        flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
        view = memoryview(mmap.mmap(memory, 0, flags=flags, prot=mmap.PROT_READ))
    finally:
        os.close(memory)
    start = _LENGTH_BYTES
    end = start + int.from_bytes(view[:start])
    data, sizes = pickle.loads(view[start:end])  # noqa: S301 (of this server's own process)
    buffers = []
    for size in sizes:
        start = _aligned(end)
        end = start + size
        buffers.append(view[start:end])
    graphs: ReadyGraphs = pickle.loads(data, buffers=buffers)  # noqa: S301 (as above)
    return graphs


def _aligned(position: int) -> int:
    return -(-position // ALIGNMENT) * ALIGNMENT
