"""A network as a stage of a bundle: from the image of the bundle to its exit.

    image ─► [reduce] ─► [normalise] ─► network ─► [log] ─► [order] ─► / temperature ─► softmax

The image is uint8 RGB at the largest size of all networks. Parts in brackets are left out where
they change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper

from exporter.cascade.networks.batch import BATCH, with_batch_axis
from exporter.cascade.networks.network import ImageTensor, Network
from exporter.cascade.networks.original import Kind, Normalisation
from exporter.cascade.networks.reduction import add_reduction
from exporter.errors import ExportError, in_short
from exporter.stages.graph import (
    CONFIDENCE,
    IMAGE,
    PROBABILITIES,
    TEMPERATURE,
    Nodes,
    StageGraph,
)
from offramp.bundle.graphs import EXIT_OUTPUTS, renamed, value_names, without_head
from offramp.bundle.values import Confidence, Filter

TINY = np.finfo(np.float32).tiny
IR_VERSION = 8  # the oldest that has all operators used here; old servers read it


@dataclass(frozen=True, slots=True)
class ImageForm:
    """The image of the bundle, uint8 [N, size, size, 3], and the filter that reduces it."""

    size: int
    filter: Filter

    @property
    def tensor(self) -> onnx.ValueInfoProto:
        """Return the input of a stage that reads it."""
        shape: list[str | int | None] = [BATCH, self.size, self.size, 3]
        return helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, shape)


@dataclass(frozen=True, slots=True)
class Reading:
    """The way in which a network is read.

    Attributes:
        size: Height and width of the images that it reads.
        normalisation: Normalisation of the images. `None`: it reads pixels.
        output: Name of its output.
        kind: Kind of its output.
        order: Its output for each label of the bundle.
        confidence: Function of the probabilities that thresholds apply to.
    """

    size: int
    normalisation: Normalisation | None
    output: str
    kind: Kind
    order: Sequence[int]
    confidence: Confidence


def stage_of(network: Network, reading: Reading, image: ImageForm) -> StageGraph:
    """Return a network as a stage. Its temperature is 1.

    Raises:
        ExportError: Its flops cannot be counted, for example because of unknown operators.
    """
    inner = _inner(with_batch_axis(network.model, network.image.batch, reading.size))
    before, after = Nodes(network.opset), Nodes(network.opset)
    pixels = add_image(before, network.image, reading, image)
    logits, kept = _logits(inner, _of_network(reading.output), reading.kind)
    add_exit(after, logits, reading)
    names = {_of_network(network.image.name): pixels}
    nodes = [*before.nodes, *kept, *after.nodes]
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
    graph = helper.make_graph(
        nodes,
        "stage",
        [image.tensor],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape])
            for name, shape in ((PROBABILITIES, [len(reading.order)]), (CONFIDENCE, []))
        ],
        [*before.weights, *inner.graph.initializer, *after.weights],
    )
    ir_version = max(IR_VERSION, network.model.ir_version)
    model = helper.make_model(graph, opset_imports=inner.opset_import, ir_version=ir_version)
    return checked(network.name, StageGraph(without_head(model, EXIT_OUTPUTS)))


def checked(name: str, stage: StageGraph) -> StageGraph:
    """Return a stage after a check that its flops can be counted.

    Raises:
        ExportError: They cannot.
    """
    try:
        flops = stage.flops
    except Exception as error:
        raise ExportError(
            f"{name}: its multiply-adds cannot be counted: {in_short(error)}"
        ) from error
    if not flops:
        raise ExportError(f"{name}: has no convolution and no matrix product")
    return stage


def _of_network(name: str) -> str:
    """Return the name of a network's value in its stage, which no name of the stage ends like."""
    return f"network/{name}/"


def _inner(model: ModelProto) -> ModelProto:
    names = [*value_names(model), *(value.name for value in model.graph.input)]
    return renamed(model, {name: _of_network(name) for name in names})


def add_image(nodes: Nodes, tensor: ImageTensor, reading: Reading, image: ImageForm) -> str:
    """Add the nodes from the bundle's image to that of a network, and return its name."""
    reduced = reading.size < image.size
    first = tensor.layout == "nchw"
    if reduced:
        name = add_reduction(nodes, image.size, reading.size, image.filter)
        if not first:
            name = nodes.add("Transpose", [name], "channels_last", perm=[0, 2, 3, 1])
    else:
        name = nodes.add("Transpose", [IMAGE], "channels", perm=[0, 3, 1, 2]) if first else IMAGE
    if reading.normalisation is None:
        dtype = TensorProto.UINT8
        return nodes.add("Cast", [name], "pixels", to=dtype) if reduced else name
    if not reduced:
        name = nodes.add("Cast", [name], "real", to=TensorProto.FLOAT)
    name = _normalised(nodes, name, reading.normalisation, (3, 1, 1) if first else (3,))
    half = tensor.dtype == "float16"
    return nodes.add("Cast", [name], "half_image", to=TensorProto.FLOAT16) if half else name


def _normalised(
    nodes: Nodes, name: str, normalisation: Normalisation, shape: tuple[int, ...]
) -> str:
    for number, (operator, values) in enumerate(normalisation.steps(), 1):
        weight = nodes.weight(f"operand_{number}", np.array(values, np.float32).reshape(shape))
        name = nodes.add(operator, [name, weight], f"normal_{number}")
    return name


def _logits(
    model: ModelProto, output: str, kind: Kind
) -> tuple[tuple[str, bool], list[onnx.NodeProto]]:
    """Return the value to take as logits, whether it needs a logarithm, and the nodes to keep.

    A softmax at the end is removed, because its input are logits.
    """
    nodes = list(model.graph.node)
    maker = next(node for node in nodes if output in node.output)
    if kind == "logits":
        return (output, False), nodes
    if maker.op_type == "Softmax":
        return (maker.input[0], False), [node for node in nodes if node is not maker]
    return (output, True), nodes


def add_exit(nodes: Nodes, logits: tuple[str, bool], reading: Reading) -> None:
    """Add the nodes from a network's output to the outputs of an exit."""
    name, logarithm = logits
    classes = len(reading.order)
    name = nodes.add("Cast", [name], "output_real", to=TensorProto.FLOAT)
    name = nodes.add("Reshape", [name, nodes.weight("flat", np.array([0, -1]))], "output_flat")
    if logarithm:
        positive = nodes.add("Max", [name, nodes.weight("tiny", np.float32(TINY))], "positive")
        name = nodes.add("Log", [positive], "logarithm")
    if list(reading.order) != list(range(classes)):
        order = nodes.weight("order", np.array(reading.order))
        name = nodes.add("Gather", [name, order], "ordered", axis=1)
    temperature = nodes.weight(TEMPERATURE, np.float32(1))
    cooled = nodes.add("Div", [name, temperature], "cooled")
    nodes.add("Softmax", [cooled], PROBABILITIES, axis=1)
    CONFIDENCES[reading.confidence](nodes, classes)


def _max_softmax(nodes: Nodes, _: int) -> None:
    if nodes.opset < 18:  # from then on, the axes are an input
        nodes.add("ReduceMax", [PROBABILITIES], CONFIDENCE, axes=[1], keepdims=0)
    else:
        axes = nodes.weight("axes", np.array([1]))
        nodes.add("ReduceMax", [PROBABILITIES, axes], CONFIDENCE, keepdims=0)


def _margin(nodes: Nodes, _: int) -> None:
    count = nodes.weight("two", np.array([2]))
    node = helper.make_node("TopK", [PROBABILITIES, count], ["top", "top_classes"], axis=1)
    nodes.nodes.append(node)
    first, second = (
        nodes.add("Gather", ["top", nodes.weight(f"{k}_of_top", np.array(k))], f"top_{k}", axis=1)
        for k in range(2)
    )
    nodes.add("Sub", [first, second], CONFIDENCE)


def _negentropy(nodes: Nodes, classes: int) -> None:
    positive = nodes.add("Max", [PROBABILITIES, nodes.weight("least", np.float32(TINY))], "above_0")
    information = nodes.add("Log", [positive], "information")
    products = nodes.add("Mul", [PROBABILITIES, information], "products")
    axes = nodes.weight("axes", np.array([1]))
    entropy = nodes.add("ReduceSum", [products, axes], "entropy", keepdims=0)
    size = nodes.weight("log_classes", np.float32(math.log(classes)))
    share = nodes.add("Div", [entropy, size], "entropy_share")
    one, zero = nodes.weight("one", np.float32(1)), nodes.weight("zero", np.float32(0))
    nodes.add("Max", [nodes.add("Add", [share, one], "rest"), zero], CONFIDENCE)


CONFIDENCES = {"max_softmax": _max_softmax, "margin": _margin, "negentropy": _negentropy}
