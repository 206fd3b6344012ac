"""A stage's graph on rows, run as in the server, with its outputs bound to its inputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from offramp.bundle.manifest import TensorSpec
from serving.runtime.cuda.graph import RANKED, SLOTS, kept, pooled, with_slot_rows

X, Y = (TensorSpec(name=name, dtype="float32", shape=(2, 3)) for name in ("x", "y"))
CLASSES = 12


def stage() -> ModelProto:
    """Return y = 2 x + bias, with 12 classes."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("Add", ["double", "bias"], ["y"]),
        helper.make_node("Flatten", ["y"], ["flat"]),
        helper.make_node("Concat", ["flat", "flat"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ReduceMax", ["probabilities"], ["confidence"], axes=[1], keepdims=0),
    ]
    bias = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = helper.make_graph(
        nodes,
        "stage",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2, 3]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", CLASSES]),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, ["n"]),
        ],
        [onnx.numpy_helper.from_array(bias, "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(
    model: ModelProto, x: NDArray[np.float32], y: NDArray[np.float32], slots: list[int]
) -> dict[str, NDArray[Any]]:
    """Return the outputs of the exit, by name. `y` is changed in place."""
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    rows = ort.OrtValue.ortvalue_from_numpy(y)
    binding.bind_cpu_input(SLOTS, np.array(slots))
    binding.bind_cpu_input(pooled("x"), x)
    binding.bind_ortvalue_input(pooled("y"), rows)
    binding.bind_ortvalue_output(kept("y"), rows)
    names = [output.name for output in session.get_outputs()][1:]
    for name in names:
        binding.bind_output(name)
    session.run_with_iobinding(binding)
    return dict(zip(names, binding.copy_outputs_to_cpu()[1:], strict=True))


@pytest.fixture
def x() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(9, 2, 3)).astype(np.float32)


def test_it_reads_and_writes_the_rows_of_its_slots_only(x: NDArray[np.float32]) -> None:
    y = np.full_like(x, 7)
    slots = [5, 0, 8, 8]  # as in a batch that is filled up
    said = run(with_slot_rows(stage(), [X], [Y], len(x), len(slots)), x, y, slots)
    bias = np.arange(6).reshape(2, 3)
    np.testing.assert_allclose(y[[5, 0, 8]], 2 * x[[5, 0, 8]] + bias, rtol=1e-6)
    assert (np.delete(y, [5, 0, 8], axis=0) == 7).all()
    assert said["probabilities"].shape == (4, CLASSES)
    np.testing.assert_array_equal(said["confidence"], said["probabilities"].max(1))


def test_of_many_classes_it_gives_the_likeliest(x: NDArray[np.float32]) -> None:
    slots = [1, 2]
    everything = run(with_slot_rows(stage(), [X], [Y], len(x), 2), x, x.copy(), slots)
    ranked = run(with_slot_rows(stage(), [X], [Y], len(x), 2, ranked=3), x, x.copy(), slots)
    values, classes = (ranked[name] for name in RANKED)
    expected = np.sort(everything["probabilities"])[:, ::-1][:, :3]
    np.testing.assert_array_equal(values, expected)
    found = np.take_along_axis(everything["probabilities"], classes.astype(np.int64), 1)
    np.testing.assert_array_equal(found, expected)
    assert "probabilities" not in ranked
    np.testing.assert_array_equal(ranked["confidence"], everything["confidence"])


def test_the_other_rows_are_not_copied() -> None:
    """Otherwise a batch would take as long as a copy of all slots."""
    wide = TensorSpec(name="y", dtype="float32", shape=(1 << 14,))
    source = TensorSpec(name="x", dtype="float32", shape=(1 << 14,))
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1 << 14]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "stage", infos[:1], infos[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rows = 1 << 11  # 128 MiB
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        with_slot_rows(model, [source], [wide], rows, 1).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    x, y = (np.ones((rows, 1 << 14), np.float32) for _ in range(2))
    value = ort.OrtValue.ortvalue_from_numpy(y)
    binding = session.io_binding()
    binding.bind_cpu_input(SLOTS, np.array([3]))
    binding.bind_cpu_input(pooled("x"), x)
    binding.bind_ortvalue_input(pooled("y"), value)
    binding.bind_ortvalue_output(kept("y"), value)

    def seconds(call: Callable[[], object]) -> float:
        started = time.thread_time()
        call()
        return time.thread_time() - started

    batch = min(seconds(lambda: session.run_with_iobinding(binding)) for _ in range(5))
    assert batch < 0.1 * seconds(y.copy)
    assert (y[3] == -1).all()
    assert y.sum() == y.size - 2 * (1 << 14)
