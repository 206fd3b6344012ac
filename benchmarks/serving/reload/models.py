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


class Versions:
    """Writes versions of a bundle into a folder of models.

    Args:
        folder: The folder.
        bundle: The bundle to copy.
        name: Name of the model.

    Attributes:
        changes: What differs between versions, beside the labels: nothing, as after `offramp
            certify`, or weights of each graph, as after `offramp recalibrate` or a training.
    """

    def __init__(self, folder: Path, bundle: Path, name: str = NAME) -> None:
        self.changes: What = "manifest"
        self._folder = folder / name
        self._name = name
        self._bundle = bundle
        self._document = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))

    def write(self, version: int, *, corrupt: bool = False) -> None:
        """Write a version. Its manifest comes last. A corrupt one has a graph of other bytes."""
        folder = self._folder / str(version)
        folder.mkdir(parents=True)
        stages = [self._write_graph(folder, stage, version) for stage in self._document["stages"]]
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

    def _write_graph(self, folder: Path, stage: dict[str, Any], version: int) -> dict[str, Any]:
        """Write the graph of a stage. Return the stage with its hash."""
        source, target = self._bundle / stage["file"], folder / stage["file"]
        if self.changes == "manifest":
            shutil.copyfile(source, target)
            return stage
        model = ModelProto.FromString(source.read_bytes())
        floats = [t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT]
        weight = max(floats, key=lambda tensor: len(tensor.raw_data))
        values = numpy_helper.to_array(weight) * np.float32(1 + STEP * version)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        graph = model.SerializeToString()
        target.write_bytes(graph)
        return stage | {"sha256": hashlib.sha256(graph).hexdigest()}

    def remove(self, version: int) -> None:
        """Remove a version."""
        shutil.rmtree(self._folder / str(version))
