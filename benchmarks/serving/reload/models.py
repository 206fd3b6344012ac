"""A folder with many versions of one bundle, each with labels that name it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

What = Literal["manifest", "graphs"]
WHAT: tuple[What, ...] = get_args(What)
NAME = "model"
STEP = 1e-6  # by which a weight differs from that of the version before, relative
SETS = 4  # of graphs with other weights: more than versions that are loaded at one time


class Versions:
    """Writes versions of a bundle into a folder of models.

    Args:
        folder: The folder.
        bundle: The bundle to copy.
        name: Name of the model.

    Attributes:
        changes: What differs between versions, beside the labels: nothing, as after `offramp
            certify`, or weights of each graph, as after `offramp recalibrate` or a training. A
            version has other weights than the `SETS` - 1 before it.
    """

    def __init__(self, folder: Path, bundle: Path, name: str = NAME) -> None:
        self.changes: What = "manifest"
        self._folder = folder / name
        self._name = name
        self._bundle = bundle
        self._document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        self._sets: dict[int, list[dict[str, Any]]] = {}

    def prepare(self) -> None:
        """Make all graphs, which takes the time of a core that a server under load needs."""
        if self.changes == "graphs":
            for number in range(SETS):
                self._set(number)

    def write(self, version: int, *, corrupt: bool = False) -> None:
        """Write a version. Its manifest comes last. A corrupt one has a graph of other bytes."""
        folder = self._folder / str(version)
        folder.mkdir(parents=True)
        source, stages = self._bundle, self._document["stages"]
        if self.changes == "graphs":
            source, stages = self._set(version % SETS)
        for stage in stages:
            shutil.copyfile(source / stage["file"], folder / stage["file"])
        if corrupt:
            with (folder / stages[-1]["file"]).open("ab") as graph:
                graph.write(b"?")
        labels = [f"{self._name}@{version}:{label}" for label in self._document["labels"]]
        document = self._document | {"labels": labels, "stages": stages}
        if stages != self._document["stages"]:
            document.pop("promises", None)  # they hold for the graphs that they were made on
        partial = folder / "manifest.json.partial"
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.rename(folder / "manifest.json")

    def _set(self, number: int) -> tuple[Path, list[dict[str, Any]]]:
        """Return a folder of graphs with weights of their own, and the stages with their hashes."""
        folder = self._folder / "graphs" / str(number)
        if number not in self._sets:
            folder.mkdir(parents=True)
            stages = self._document["stages"]
            self._sets[number] = [self._write_graph(folder, stage, number) for stage in stages]
        return folder, self._sets[number]

    def _write_graph(self, folder: Path, stage: dict[str, Any], number: int) -> dict[str, Any]:
        """Write a graph with another weight. Return its stage with the hash."""
        model = ModelProto.FromString((self._bundle / stage["file"]).read_bytes())
        floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
        weight = max(floats, key=lambda tensor: len(tensor.raw_data))
        values = numpy_helper.to_array(weight) * np.float32(1 + STEP * (number + 1))
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        graph = model.SerializeToString()
        (folder / stage["file"]).write_bytes(graph)
        return stage | {"sha256": hashlib.sha256(graph).hexdigest()}

    def remove(self, version: int) -> None:
        """Remove a version."""
        shutil.rmtree(self._folder / str(version))
