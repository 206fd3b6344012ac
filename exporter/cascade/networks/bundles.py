"""The stages of a bundle as stages of a cascade, which has a larger image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, TensorProto

from exporter.cascade.networks.network import opset_of
from exporter.cascade.networks.reduction import add_reduction
from exporter.cascade.networks.stage import ImageForm, checked
from exporter.errors import ExportError
from exporter.reject.graphs import without_score
from exporter.stages.graph import IMAGE, PROBABILITIES, Nodes, StageGraph
from offramp.bundle.graphs import EXIT_OUTPUTS, renamed, value_names
from offramp.bundle.manifest import ImageInput, Manifest


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle among the networks of a cascade."""

    name: str
    manifest: Manifest
    graphs: Sequence[StageGraph]

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels, in the order of its outputs."""
        return self.manifest.labels

    @property
    def size(self) -> int:
        """Height and width of the images that it reads."""
        return self.manifest.input.height


def stages_of(
    bundle: Bundle, number: int, order: Sequence[int], image: ImageForm
) -> list[StageGraph]:
    """Return the stages of a bundle, which read the image of the cascade.

    Args:
        bundle: The bundle.
        number: Its number among the networks, which the names of its values begin with.
        order: Its class for each label of the cascade.
        image: Image of the cascade.
    """
    graphs = [_stage(without_score(graph), number, order, image) for graph in bundle.graphs]
    return [checked(bundle.name, graph) for graph in graphs]


def _stage(graph: StageGraph, number: int, order: Sequence[int], image: ImageForm) -> StageGraph:
    names = {*value_names(graph.model), *(spec.name for spec in graph.inputs)}
    names -= {IMAGE, *EXIT_OUTPUTS}
    model = renamed(graph.model, {name: f"network_{number}/{name}" for name in names})
    if list(order) != list(range(len(order))):
        _reorder(model, order)
    size = next((spec.shape[0] for spec in graph.inputs if spec.name == IMAGE), image.size)
    return StageGraph(model if size == image.size else _reduced(model, size, image))


def _reorder(model: ModelProto, order: Sequence[int]) -> None:
    """Put the logits into the order of the cascade's labels."""
    graph = model.graph
    (softmax,) = (node for node in graph.node if PROBABILITIES in node.output)
    if softmax.op_type != "Softmax":
        raise ExportError("its probabilities are not the output of a softmax")
    nodes = Nodes(opset_of(model))
    index = nodes.weight("order", np.array(order))
    nodes.add("Gather", [softmax.input[0], index], "ordered", axis=1)
    softmax.input[0] = "ordered"
    at = list(graph.node).index(softmax)
    graph.node.insert(at, nodes.nodes[0])
    graph.initializer.extend(nodes.weights)


def _reduced(model: ModelProto, size: int, image: ImageForm) -> ModelProto:
    """Let a stage read a larger image, and reduce it."""
    small = "small_image"
    model = renamed(model, {IMAGE: small})
    nodes = Nodes(opset_of(model))
    planes = add_reduction(nodes, image.size, size, image.filter)
    last = nodes.add("Transpose", [planes], "channels_last", perm=[0, 2, 3, 1])
    nodes.add("Cast", [last], small, to=TensorProto.UINT8)
    own, graph = list(model.graph.node), model.graph
    del graph.node[:]
    graph.node.extend([*nodes.nodes, *own])
    graph.initializer.extend(nodes.weights)
    others = [value for value in graph.input if value.name != small]
    del graph.input[:]
    graph.input.extend([image.tensor, *others])
    return model


def check_input(name: str, manifest: Manifest, image: ImageInput) -> None:
    """Check that a bundle brings images to its size as the cascade does.

    Raises:
        ExportError: It does not.
    """
    own = manifest.input
    if own.height != own.width:
        raise ExportError(f"{name}: reads images that are not square")
    if replace_size(own, image.height) != image:
        raise ExportError(
            f"{name}: brings images to its size with --filter {own.filter} --margin {own.margin:g} "
            f"and fit {own.fit}, and the cascade with --filter {image.filter} --margin "
            f"{image.margin:g} and fit {image.fit}; all networks get the same image"
        )


def replace_size(image: ImageInput, size: int) -> ImageInput:
    """Return the same way to bring an image to another size."""
    return image.model_copy(update={"height": size, "width": size})
