from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from offramp.bundle.graphs import without_weights
from serving.runtime.session import (
    common_weights,
    open_session,
    open_with_weights,
    providers_of,
)

WIDTH = 1000


def product() -> ModelProto:
    """Return a graph with a large and a small weight, both ones."""
    weights = {"large": np.ones(WIDTH, np.float32), "small": np.ones(1, np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "large"], ["y"]),
        helper.make_node("Mul", ["y", "small"], ["z"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in "xz"]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_sessions_use_the_same_weights(tmp_path: Path) -> None:
    """A change of a weight changes all sessions. Small weights stay in the graph."""
    model = product()
    shared = common_weights(model)
    assert list(shared) == ["large"]
    sessions = [
        open_session(tmp_path, model, providers_of("cpu", 0), shared),
        open_session(tmp_path, model, providers_of("cpu", 0), shared),
        open_with_weights(without_weights(model, shared), shared),
    ]
    shared["large"].update_inplace(np.full(WIDTH, 5, np.float32))
    for session in sessions:
        (z,) = session.run(None, {"x": np.zeros((2, WIDTH), np.float32)})
        assert (z == 5).all()
    alone = open_session(tmp_path, model.SerializeToString(), providers_of("cpu", 0))
    assert (alone.run(None, {"x": np.zeros((1, WIDTH), np.float32)})[0] == 1).all()


def test_an_optimised_graph_is_written_with_its_weights(tmp_path: Path) -> None:
    model = product()
    weights = common_weights(model)
    path = tmp_path / "optimised.onnx"
    open_with_weights(without_weights(model, weights), weights, path)
    written = onnx.load(path)
    assert {tensor.name for tensor in written.graph.initializer} == {"large", "small"}
    for tensor in written.graph.initializer:
        assert (numpy_helper.to_array(tensor) == 1).all()
