"""The small bundle with scores and the record `reject`: about half of the images are rejected."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from serving.runtime.session import session_options
from tests.serving.small_bundle import random_images, write_bundle


def write_reject_bundle(folder: Path) -> Path:
    """Write the bundle. Thresholds are the medians of the scores of 512 images."""
    write_bundle(folder)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for stage in manifest["stages"]:
        model = onnx.load(folder / stage["file"])
        node = helper.make_node("ReduceLogSumExp", ["logits"], ["score"], axes=[1], keepdims=0)
        model.graph.node.append(node)
        value = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])
        model.graph.output.append(value)
        graph = model.SerializeToString()
        (folder / stage["file"]).write_bytes(graph)
        stage["sha256"] = hashlib.sha256(graph).hexdigest()
    scores = scores_of(folder, random_images(512, seed=1))
    shares = {"false_reject": 0.5, "caught": 0.75}
    auroc = {"value": 0.75, "low": 0.5, "high": 0.875}
    manifest["reject"] = {
        "score": "energy",
        "exits": [
            {"threshold": float(np.median(each)), "auroc": auroc, **shares} for each in scores
        ],
        "budgets": dict.fromkeys(manifest["budgets"], shares),
        "false_reject": 0.5,
        "images": 100,
        "source": "noise",
    }
    path.write_text(json.dumps(manifest))
    return folder


def scores_of(folder: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Run the graphs of a bundle one after another. Return the scores [exits, N]."""
    known: dict[str, NDArray[np.generic]] = {"image": images}
    scores = []
    for stage in json.loads((folder / "manifest.json").read_text())["stages"]:
        path, providers = folder / stage["file"], ["CPUExecutionProvider"]
        session = ort.InferenceSession(path, session_options(), providers)
        names = [output.name for output in session.get_outputs()]
        given = {value.name: known[value.name] for value in session.get_inputs()}
        known |= dict(zip(names, session.run(names, given), strict=True))
        scores.append(known["score"])
    return np.stack(scores)
