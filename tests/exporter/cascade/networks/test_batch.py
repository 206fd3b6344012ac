"""Networks as torch exports them for a batch of 1."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from exporter.cascade.networks.batch import with_batch_axis
from exporter.stages.runner import session_options

node = helper.make_node
Weights = dict[str, NDArray[np.generic]]


def network(nodes: list[onnx.NodeProto], weights: Weights, batch: int = 1) -> onnx.ModelProto:
    """Return a graph from an image of 4x4 pixels to an answer."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 4, 4])
    answer = helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        nodes,
        "network",
        [image],
        [answer],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    graph = model.SerializeToString()
    session = ort.InferenceSession(graph, session_options(), ["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return found


def class_token() -> onnx.ModelProto:
    """Join a token, which an Expand makes, to the pixels of the image."""
    nodes = [
        node("Reshape", ["image", "pixels"], ["rows"]),
        node("Transpose", ["rows"], ["tokens"], perm=[0, 2, 1]),
        node("Expand", ["token", "batch"], ["first"]),
        node("Concat", ["first", "tokens"], ["joined"], axis=1),
        node("ReduceMax", ["joined"], ["answer"], axes=[1], keepdims=0),
    ]
    token = np.array([[[0.5, -9, 0.5]]], np.float32)
    return network(
        nodes, {"pixels": np.array([1, 3, -1]), "token": token, "batch": np.array([1, 1, 3])}
    )


def windows() -> onnx.ModelProto:
    """Change each of four windows of the image on its own, and join them again."""
    parts, whole = np.array([1, 3, 2, 2, 2, 2]), np.array([1, 3, 4, 4])
    nodes = [
        node("Reshape", ["image", "parts"], ["divided"], allowzero=1),
        node("Transpose", ["divided"], ["ordered"], perm=[0, 2, 4, 1, 3, 5]),
        node("Reshape", ["ordered", "windows"], ["apart"]),
        node("Softmax", ["apart"], ["changed"], axis=1),
        node("Concat", ["one", "rest"], ["computed"], axis=0),
        node("Reshape", ["changed", "computed"], ["grid"]),
        node("Transpose", ["grid"], ["back"], perm=[0, 3, 1, 4, 2, 5]),
        node("Reshape", ["back", "whole"], ["answer"]),
    ]
    weights = {"parts": parts, "whole": whole, "windows": np.array([4, 12])}
    return network(nodes, weights | {"one": np.array([1]), "rest": np.array([2, 2, 3, 2, 2])})


@pytest.mark.parametrize("make", [class_token, windows])
def test_a_batch_of_one_becomes_any_batch(make: Callable[[], onnx.ModelProto]) -> None:
    model = make()
    images = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    expected = np.concatenate([run(model, image[None]) for image in images])
    assert np.abs(run(with_batch_axis(model, 1, 4), images) - expected).max() < 1e-6


def test_a_larger_batch_becomes_any_batch() -> None:
    flat = [node("Reshape", ["image", "flat"], ["answer"])]
    images = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    for target in ([2, -1], [2, 48]):
        model = with_batch_axis(network(flat, {"flat": np.array(target)}, batch=2), 2, 4)
        assert np.array_equal(run(model, images), images.reshape(3, -1))


def test_a_constant_that_is_joined_to_the_batch_stays() -> None:
    joined = network(
        [node("Concat", ["image", "more"], ["answer"], axis=0)],
        {"more": np.zeros((1, 3, 4, 4), np.float32)},
    )
    assert run(with_batch_axis(joined, 1, 4), np.ones((3, 3, 4, 4), np.float32)).shape[0] == 4
