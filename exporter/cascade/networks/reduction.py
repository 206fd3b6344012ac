"""Reduction of an image inside a graph, equal to Pillow's `resize` but for roundings.

Pillow resizes the rows, rounds to 8 bits, resizes the columns, and rounds again. Each of the two
is a product with a constant matrix, in blocks, because most of it is 0. A value differs, by
one level of 255 and rarely by two, where its sum is so near a half that the last bit of a float
decides. `Resize` with antialiasing differs more often, and takes longer.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from exporter.errors import VerificationError
from exporter.stages.graph import IMAGE, OPSET, Nodes
from exporter.stages.runner import session_options
from offramp.bundle.preprocess import FILTERS
from offramp.bundle.values import Filter
from offramp.images.reduction import REDUCTION, blocks, coefficients

MOST_LEVELS = 2  # of 255, that a pixel differs from Pillow's
COMPARED = 32  # images that are compared with Pillow's
BATCH = 32
Pixels = NDArray[np.uint8]


def add_reduction(nodes: Nodes, size: int, smaller: int, kind: Filter) -> str:
    """Add the reduction of the image, uint8 [N, size, size, 3].

    Returns:
        The name of the smaller image: whole numbers in float32, [N, 3, smaller, smaller].
    """
    matrix = coefficients(size, smaller, kind)
    nodes.weight("half", np.float32(0.5))
    nodes.weight("black", np.float32(0))
    nodes.weight("white", np.float32(255))
    channels = nodes.add("Transpose", [IMAGE], "channels", perm=[0, 3, 1, 2])
    real = nodes.add("Cast", [channels], "real", to=TensorProto.FLOAT)
    return _rounded(nodes, _down(nodes, _rounded(nodes, _across(nodes, real, matrix)), matrix))


def _across(nodes: Nodes, image: str, matrix: NDArray[np.float32]) -> str:
    """Resize rows, block by block: outside of its block a coefficient is 0."""
    parts = []
    for block, (own, read) in enumerate(blocks(matrix)):
        columns = _slice(nodes, image, read, 3, f"columns_{block}")
        taps = np.ascontiguousarray(matrix[own, read].T)
        weight = nodes.weight(f"across_{block}_{REDUCTION}", taps)
        parts.append(nodes.add("MatMul", [columns, weight], f"narrow_{block}"))
    return nodes.add("Concat", parts, "narrow", axis=3)


def _down(nodes: Nodes, image: str, matrix: NDArray[np.float32]) -> str:
    """Resize columns, block by block."""
    parts = []
    for block, (own, read) in enumerate(blocks(matrix)):
        rows = _slice(nodes, image, read, 2, f"rows_{block}")
        weight = nodes.weight(f"down_{block}_{REDUCTION}", matrix[own, read])
        parts.append(nodes.add("MatMul", [weight, rows], f"small_{block}"))
    return nodes.add("Concat", parts, "small", axis=2)


def _slice(nodes: Nodes, value: str, part: slice, axis: int, name: str) -> str:
    bounds = {"start": part.start, "end": part.stop, "axis": axis}
    inputs = [nodes.weight(f"{name}_{key}", np.array([at])) for key, at in bounds.items()]
    return nodes.add("Slice", [value, *inputs], name)


def _rounded(nodes: Nodes, value: str) -> str:
    """Round to 8 bits. Halves are rounded up, as in Pillow."""
    up = nodes.add("Floor", [nodes.add("Add", [value, "half"], f"{value}_half")], f"{value}_floor")
    return nodes.add("Clip", [up, "black", "white"], f"{value}_rounded")


def reduce_images(pixels: Pixels, smaller: int, kind: Filter) -> Pixels:
    """Return the images [N, size, size, 3] as the graphs reduce them, [N, smaller, smaller, 3].

    Raises:
        VerificationError: One differs from Pillow's by more than MOST_LEVELS.
    """
    size = pixels.shape[1]
    if size == smaller:
        return pixels
    nodes = Nodes(OPSET)
    planes = nodes.add(
        "Cast", [add_reduction(nodes, size, smaller, kind)], "planes", to=TensorProto.UINT8
    )
    nodes.add("Transpose", [planes], "reduced", perm=[0, 2, 3, 1])
    shapes = {IMAGE: ["batch", size, size, 3], "reduced": ["batch", smaller, smaller, 3]}
    image, reduced = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, shape)
        for name, shape in shapes.items()
    )
    graph = helper.make_graph(nodes.nodes, "reduction", [image], [reduced], nodes.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    encoded = model.SerializeToString()
    session = ort.InferenceSession(encoded, session_options(), ["CPUExecutionProvider"])
    starts = range(0, len(pixels), BATCH)
    parts = [session.run(None, {IMAGE: pixels[at : at + BATCH]})[0] for at in starts]
    found: Pixels = np.concatenate(parts)
    _check_like_pillow(pixels[:COMPARED], found[:COMPARED], kind)
    return found


def _check_like_pillow(pixels: Pixels, found: Pixels, kind: Filter) -> None:
    side = found.shape[1]
    for image, reduced in zip(pixels, found, strict=True):
        expected = np.asarray(Image.fromarray(image).resize((side, side), FILTERS[kind]))
        most = int(np.abs(reduced.astype(np.int16) - expected).max())
        if most > MOST_LEVELS:
            raise VerificationError(
                f"the {kind} reduction to {side} pixels differs from Pillow's by {most} levels"
            )
