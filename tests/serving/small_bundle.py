"""A small real bundle: a convolutional network in four stages, random weights, measured numbers."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from serving.runtime.session import session_options

Array = NDArray[Any]
CLASSES = 10
STAGES = 4
SIZE = 32
CHANNELS = 8
SHARPNESS = (6.0, 9.0, 14.0, 22.0)  # of the softmax, by exit: later exits are more confident
FLOPS = (100_000, 250_000, 430_000, 700_000)  # to each exit, with all earlier heads
HEADS = (10_000, 20_000, 30_000, 270_000)


def random_images(count: int, seed: int) -> NDArray[np.uint8]:
    """Return coarse coloured patterns of different contrast, uint8 [count, 32, 32, 3]."""
    rng = np.random.default_rng(seed)
    contrast = rng.uniform(0.1, 1.0, (count, 1, 1, 1))
    coarse = 128 + contrast * rng.uniform(-127, 127, (count, 4, 4, 3))
    return coarse.round().astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def png(image: NDArray[np.uint8], form: str = "PNG", **options: Any) -> bytes:
    """Encode an array as an image file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, form, **options)
    return file.getvalue()


class _Graph:
    """The nodes and weights of one stage."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def weight(self, name: str, value: Array) -> str:
        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def conv(self, name: str, source: str, channels: int, stride: int) -> str:
        shape = (CHANNELS, channels, 3, 3)
        kernel = self.rng.normal(0, (2 / (9 * channels)) ** 0.5, shape).astype(np.float32)
        weight = self.weight(f"{name}.w", kernel)
        strides, pads = [stride, stride], [1, 1, 1, 1]
        return self.op("Conv", [source, weight], f"{name}.y", strides=strides, pads=pads)

    def head(self, source: str, sharpness: float) -> None:
        pooled = self.op("AveragePool", [source], "pooled", kernel_shape=[4, 4], strides=[4, 4])
        flat = self.op("Flatten", [pooled], "flat")
        # not LpNormalization, which CUDA's provider does not have
        length = self.op("ReduceL2", [flat], "length", axes=[1], keepdims=1)
        norm = self.op("Div", [flat, length], "norm")
        width = CHANNELS * 16
        dense = self.rng.normal(0, sharpness, (width, CLASSES)).astype(np.float32) / 4
        logits = self.op("MatMul", [norm, self.weight("dense.w", dense)], "logits")
        self.op("Softmax", [logits], "probabilities", axis=1)
        self.op("ReduceMax", ["probabilities"], "confidence", axes=[1], keepdims=0)


def _stage(k: int, rng: np.random.Generator) -> onnx.ModelProto:
    """Build stage k (from 0), which reads a fine tensor and a coarse one, as in MSDNet."""
    graph = _Graph(rng)
    if k == 0:
        real = graph.op("Cast", ["image"], "real", to=TensorProto.FLOAT)
        first = graph.op("Transpose", [real], "nchw", perm=[0, 3, 1, 2])
        centre = graph.op(
            "Sub", [first, graph.weight("mean", np.array(128, np.float32))], "centred"
        )
        scaled = graph.op("Div", [centre, graph.weight("std", np.array(64, np.float32))], "scaled")
        y = graph.conv("a", scaled, 3, 2)
    else:
        fine, coarse = (spec["name"] for spec in _inputs(k))
        up = graph.weight("scales", np.array([1, 1, 2, 2], np.float32))
        wide = graph.op("Resize", [coarse, "", up], "wide", mode="nearest")
        both = graph.op("Concat", [fine, wide], "both", axis=1)
        y = graph.conv("a", both, 2 * CHANNELS, 1)
    relu = graph.op("Relu", [y], f"b{k + 1}.fine")
    graph.head(relu, SHARPNESS[k])
    if len(_features(k)) > 1:
        coarser = _features(k)[1]["name"]
        graph.op("AveragePool", [relu], coarser, kernel_shape=[2, 2], strides=[2, 2])
    outputs = [*_features(k), *EXIT]
    made = helper.make_graph(
        graph.nodes, f"stage{k + 1}", _values(_inputs(k)), _values(outputs), graph.weights
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def _held_out(graphs: list[bytes], images: Array) -> tuple[Array, Array]:
    """Return confidences, and whether each exit agrees with the last, [stages, n] each."""
    feed: dict[str, Array] = {"image": images}
    confidences, classes = [], []
    for graph in graphs:
        session = ort.InferenceSession(graph, session_options(), ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        given = {value.name: feed[value.name] for value in session.get_inputs()}
        out = dict(zip(names, session.run(names, given), strict=True))
        feed |= out
        confidences.append(out["confidence"])
        classes.append(out["probabilities"].argmax(1))
    return np.stack(confidences), np.stack([predicted == classes[-1] for predicted in classes])


def _estimate(value: float) -> dict[str, float]:
    return {"value": float(value), "low": float(value) * 0.8, "high": float(value) * 1.2}


def _point(thresholds: list[float], confidences: Array, right: Array) -> dict[str, Any]:
    exits = (confidences >= np.array(thresholds)[:, None]).argmax(0)
    shares = np.bincount(exits, minlength=STAGES) / exits.size
    spared = np.cumsum(np.where(np.array(thresholds) > 1, HEADS, 0))
    return {
        "thresholds": thresholds,
        "mean_flops": _estimate((shares * (FLOPS - spared)).sum()),
        "accuracy": _estimate(right[exits, np.arange(exits.size)].mean()),
        "exit_shares": [_estimate(share) for share in shares],
    }


def _points(confidences: Array, right: Array) -> list[dict[str, Any]]:
    """Return a curve, from leaving at the first exit to never leaving early."""
    points = []
    for quantile in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        early = np.quantile(confidences[:-1], quantile, axis=1) if quantile < 1 else [2.0] * 3
        points.append(_point([*map(float, early), 0.0], confidences, right))
    return sorted(points, key=lambda point: point["mean_flops"]["value"])


def _tensor(name: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}


def _features(k: int) -> list[dict[str, Any]]:
    """Return the features of stage k. The third has no coarse one."""
    fine = _tensor(f"b{k + 1}.fine", "float32", (CHANNELS, 16, 16))
    coarse = _tensor(f"b{k + 1}.coarse", "float32", (CHANNELS, 8, 8))
    return [[fine, coarse], [fine, coarse], [fine], []][k]


def _inputs(k: int) -> list[dict[str, Any]]:
    """Return the inputs of stage k. The last reads the coarse feature of the second."""
    if k == 0:
        return [_tensor("image", "uint8", (SIZE, SIZE, 3))]
    return _features(k - 1) if k < 3 else [*_features(2), _features(1)[1]]


EXIT = [_tensor("probabilities", "float32", (CLASSES,)), _tensor("confidence", "float32", ())]


def _values(specs: list[dict[str, Any]]) -> list[onnx.ValueInfoProto]:
    kinds = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}
    return [
        helper.make_tensor_value_info(s["name"], kinds[s["dtype"]], ["n", *s["shape"]])
        for s in specs
    ]


def write_bundle(folder: Path, seed: int = 7) -> Path:
    """Write the bundle, with numbers measured on 512 held-out images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    graphs = [_stage(k, rng).SerializeToString() for k in range(STAGES)]
    confidences, right = _held_out(graphs, random_images(512, seed=1))
    stages = []
    for k, graph in enumerate(graphs):
        (folder / f"stage{k + 1}.onnx").write_bytes(graph)
        stages.append(
            {
                "file": f"stage{k + 1}.onnx",
                "sha256": hashlib.sha256(graph).hexdigest(),
                "inputs": _inputs(k),
                "features": _features(k),
                "flops": FLOPS[k] - (FLOPS[k - 1] if k else 0),
                "head_flops": HEADS[k],
                "flops_to_exit": FLOPS[k],
                "blockwise_flops_to_exit": FLOPS[k],
                "parameters": 1000,
                "temperature": 1.0,
                "accuracy": _estimate(right[k].mean()),
            }
        )
    curve = _points(confidences, right)
    budgets = {"low": curve[1], "medium": curve[3], "high": curve[4], "full": curve[-1]}
    manifest = {
        "format": 2,
        "name": "testnet",
        "version": "1",
        "created": "2026-01-01T00:00:00Z",
        "labels": [f"class{i}" for i in range(CLASSES)],
        "input": {"height": SIZE, "width": SIZE, "fit": "crop", "filter": "bilinear"},
        "precision": "fp32",
        "confidence": "maximum softmax probability",
        "stages": stages,
        "budgets": budgets,
        "curve": curve,
        "held_out": {"images": 512, "source": "random patterns"},
        "provenance": {
            "recipe": "random",
            "dataset": "none",
            "train_images": 1,
            "epochs": 0,
            "seed": 7,
            "commit": "none",
            "config": {},
        },
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
