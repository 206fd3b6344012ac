"""A small bundle with two exits, and cascades of it and of classifiers."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from exporter.budgets import solve_budgets
from exporter.bundle import Export, score, stage_specs, write_bundle
from exporter.cascade.__main__ import main
from exporter.cascade.photos import HeldOutImages
from exporter.stages.graph import Nodes, StageGraph
from exporter.stages.runner import Chain
from offramp.bundle.manifest import HeldOut, ImageInput, Manifest, Provenance
from tests.exporter.cascade.classifiers import LABELS, MEAN, STD, Classifier, pictures

SIZE = 24  # of the bundle with two exits
FEATURES = "features_1_1"


def channels(values: tuple[float, ...]) -> str:
    """Return an option of --mean or --std."""
    return ",".join(map(str, values))


NORMAL = ["--mean", channels(MEAN), "--std", channels(STD)]
SMALL, LARGE = Classifier(size=16, noise=0.5), Classifier(size=32, noise=0.05, softmax=True)


def make(folder: Path, data: Path, networks: list[Path], *options: str) -> Path:
    """Make a cascade by the command."""
    files = [str(network) for network in networks]
    assert main([*files, "--data", str(data), "--out", str(folder), *options]) == 0
    return folder


def two_exits() -> list[StageGraph]:
    """Return two stages, of which the second reads features of the first."""
    rng = np.random.default_rng(3)
    first, second = Nodes(20), Nodes(20)
    ordered = first.add("Transpose", ["image"], "ordered", perm=[0, 3, 1, 2])
    real = first.add("Cast", [ordered], "real", to=TensorProto.FLOAT)
    scaled = first.add("Mul", [real, first.weight("scale", np.float32(1 / 128))], "scaled")
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])
    features = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", 8, 12, 12])
    _convolution(first, scaled, FEATURES, rng, stride=2)
    _convolution(second, FEATURES, "deeper", rng, stride=1)
    _head(first, FEATURES, rng, 0.3)
    _head(second, "deeper", rng, 0.1)
    return [
        _graph(first, [image], [features]),
        _graph(second, [features], []),
    ]


def _convolution(
    nodes: Nodes, source: str, name: str, rng: np.random.Generator, stride: int
) -> None:
    width = 3 if stride == 2 else 8
    kernel = rng.normal(0, 0.1, (8, width, 3, 3))
    kernel[:3, :3, 1, 1] += np.eye(3)
    weight = nodes.weight(f"{name}.kernel", kernel.astype(np.float32))
    strides = [stride, stride]
    convolved = nodes.add("Conv", [source, weight], f"{name}.y", pads=[1] * 4, strides=strides)
    nodes.add("Relu", [convolved], name)


def _head(nodes: Nodes, source: str, rng: np.random.Generator, noise: float) -> None:
    matrix = rng.normal(0, noise, (8, 3))
    matrix[:3] += 3 * np.eye(3)[::-1]
    pooled = nodes.add("GlobalAveragePool", [source], "pooled")
    flat = nodes.add("Flatten", [pooled], "flat")
    dense = nodes.weight("dense", matrix.astype(np.float32))
    logits = nodes.add("MatMul", [flat, dense], "logits")
    temperature = nodes.weight("temperature", np.float32(1))
    cooled = nodes.add("Div", [logits, temperature], "cooled")
    nodes.add("Softmax", [cooled], "probabilities", axis=1)
    axes = nodes.weight("axes", np.array([1]))
    nodes.add("ReduceMax", ["probabilities", axes], "confidence", keepdims=0)


def _graph(
    nodes: Nodes, inputs: list[ValueInfoProto], features: list[ValueInfoProto]
) -> StageGraph:
    exits = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["batch"]),
    ]
    graph = helper.make_graph(nodes.nodes, "stage", inputs, [*features, *exits], nodes.weights)
    opsets = [helper.make_opsetid("", nodes.opset)]
    return StageGraph(helper.make_model(graph, opset_imports=opsets, ir_version=9))


def write_two_exits(folder: Path) -> Path:
    """Write the two stages as a bundle with labels in another order."""
    graphs, (pixels, targets) = two_exits(), pictures(30, SIZE, seed=1)
    images = HeldOutImages(pixels, targets)
    output = Chain(graphs).run(pixels)
    blockwise = list(accumulate(graph.flops for graph in graphs))
    scored = score(output, images, graphs)
    export = Export(graphs, blockwise, [1.0, 1.0], scored, output.classes)
    budgets, curve = solve_budgets(scored)
    manifest = Manifest(
        name="two",
        version="1",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        labels=LABELS,
        input=ImageInput(height=SIZE, width=SIZE, fit="crop", filter="bilinear"),
        precision="fp32",
        confidence="max_softmax",
        stages=stage_specs(export),
        budgets=budgets,
        curve=curve,
        held_out=HeldOut(images=30, source="pictures"),
        provenance=Provenance(
            recipe="r", dataset="d", train_images=1, epochs=0, seed=0, commit="none", config={}
        ),
    )
    write_bundle(folder, manifest, export)
    return folder
