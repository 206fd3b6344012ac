"""The multiply-adds of a graph: those of all its nodes."""

from __future__ import annotations

import onnx

from exporter.flops.operators import count_for
from exporter.flops.shapes import shapes_of_one_image
from offramp.images.reduction import REDUCTION


def count_flops(model: onnx.ModelProto) -> int:
    """Count the multiply-adds of convolutions and matrix products for one image.

    They are counted on the graph, so unused nodes that the exporter removed do not count.

    Raises:
        ExportError: An operator has an unknown number of them.
    """
    counts = [(node, count_for(node)) for node in model.graph.node]
    counted = [
        (node, count)
        for node, count in counts
        if count is not None and not any(name.endswith(REDUCTION) for name in node.input)
    ]
    names = (name for node, _ in counted for name in (*node.input, *node.output[:1]) if name)
    shapes = shapes_of_one_image(model, list(dict.fromkeys(names)))
    return sum(
        count(node, [shapes.get(name, []) for name in node.input], shapes[node.output[0]])
        for node, count in counted
    )
