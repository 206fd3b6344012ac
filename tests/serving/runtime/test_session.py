from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from serving.runtime.session import common_weights, open_session, providers_of


def test_sessions_use_the_same_weights(tmp_path: Path) -> None:
    """A change of a weight changes both sessions. Small weights stay in the graph."""
    weights = {"large": np.ones(1000, np.float32), "small": np.ones(1, np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "large"], ["y"]),
        helper.make_node("Mul", ["y", "small"], ["z"]),
    ]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1000]) for n in "xz"]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    shared = common_weights(model)
    assert list(shared) == ["large"]
    sessions = [
        open_session(tmp_path, model, providers_of("cpu", 0), shared),
        open_session(tmp_path, model, providers_of("cpu", 0), shared),
    ]
    shared["large"].update_inplace(np.full(1000, 5, np.float32))
    for session in sessions:
        (z,) = session.run(None, {"x": np.zeros((2, 1000), np.float32)})
        assert (z == 5).all()
    alone = open_session(tmp_path, model.SerializeToString(), providers_of("cpu", 0))
    assert (alone.run(None, {"x": np.zeros((1, 1000), np.float32)})[0] == 1).all()
