from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from offramp.bundle.errors import CutError
from offramp.bundle.graphs import (
    EXIT_OUTPUTS,
    cut,
    exit_outputs,
    join,
    renamed,
    without_head,
    without_weights,
)

WIDTH = 4
several = settings(max_examples=50, deadline=None)  # the first one imports all operators
IMAGE = np.array([[0, 50, 100, 250], [9, 8, 7, 6]], np.uint8)


@dataclass
class Whole:
    """A graph with several exits. `nodes` are by their first output."""

    model: ModelProto
    exits: list[tuple[str, ...]]

    @property
    def nodes(self) -> dict[str, onnx.NodeProto]:
        return {node.output[0]: node for node in self.model.graph.node}

    def upstream(self, outputs: tuple[str, ...]) -> set[str]:
        """Return the nodes that these outputs need."""
        found: set[str] = set()
        open_names = [name for name in outputs if name in self.nodes]
        while open_names:
            name = open_names.pop()
            if name not in found:
                found.add(name)
                open_names += [other for other in self.nodes[name].input if other in self.nodes]
        return found


def whole(nodes: list[onnx.NodeProto], sources: list[str]) -> Whole:
    """Return a graph of these nodes with an exit for each source. Values are [n, WIDTH]."""
    exits, outputs = exit_outputs(len(sources)), []
    for source, (probabilities, confidence) in zip(sources, exits, strict=True):
        nodes = [
            *nodes,
            helper.make_node("Softmax", [source], [probabilities]),
            helper.make_node("ReduceMax", [probabilities, "one"], [confidence], keepdims=0),
        ]
        outputs += [
            helper.make_tensor_value_info(probabilities, TensorProto.FLOAT, ["n", WIDTH]),
            helper.make_tensor_value_info(confidence, TensorProto.FLOAT, ["n"]),
        ]
    weights = [
        numpy_helper.from_array(np.array([1], np.int64), "one"),
        numpy_helper.from_array(np.array([0.1, -0.2, 0.3, 0.4], np.float32), "weight"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", WIDTH])
    cast = helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT)
    graph = helper.make_graph([cast, *nodes], "whole", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return Whole(inferred, exits)


@st.composite
def wholes(draw: st.DrawFn) -> Whole:
    """Draw a small graph with residuals, products, dead ends and computed shapes."""
    values, shapes, nodes = ["real"], [], []
    for i in range(draw(st.integers(0, 12))):
        kind, name = draw(st.sampled_from(["Relu", "Add", "Mul", "Shape", "Reshape"])), f"v{i}"
        source = draw(st.sampled_from(values))
        if kind == "Shape":
            nodes.append(helper.make_node(kind, [source], [name]))
            shapes.append(name)
            continue
        others = {"Add": values, "Mul": ["weight"], "Reshape": shapes}.get(kind)
        if others is not None and not others:
            continue
        inputs = [source] if others is None else [source, draw(st.sampled_from(others))]
        nodes.append(helper.make_node(kind, inputs, [name]))
        values.append(name)
    return whole(nodes, draw(st.lists(st.sampled_from(values), min_size=1, max_size=4)))


def run_chain(stages: list[ModelProto]) -> dict[str, np.ndarray]:
    """Return all outputs of the stages, run in order."""
    known = {"image": IMAGE}
    for stage in stages:
        names = [value.name for value in stage.graph.output]
        inputs = {value.name: known[value.name] for value in stage.graph.input}
        known |= dict(zip(names, ReferenceEvaluator(stage).run(names, inputs), strict=True))
    return known


def features(stage: ModelProto, outputs: tuple[str, ...]) -> list[str]:
    return [value.name for value in stage.graph.output if value.name not in outputs]


@several
@given(wholes())
def test_every_node_is_in_the_first_stage_whose_exit_needs_it_and_nowhere_else(
    given: Whole,
) -> None:
    seen: set[str] = set()
    for stage, outputs in zip(cut(given.model, given.exits), given.exits, strict=True):
        own = [n.output[0] for n in stage.graph.node if n.op_type != "Shape"]
        needed = {n for n in given.upstream(outputs) if given.nodes[n].op_type != "Shape"}
        assert len(set(own)) == len(own)
        assert set(own) == needed - seen
        seen |= needed


@several
@given(wholes())
def test_the_stages_in_order_give_the_outputs_of_the_whole_graph(given: Whole) -> None:
    stages = cut(given.model, given.exits)
    for stage in stages:
        onnx.checker.check_model(stage, full_check=True)
    found = run_chain(stages)
    names = [name for outputs in given.exits for name in outputs]
    for name, expected in zip(
        names, ReferenceEvaluator(given.model).run(names, {"image": IMAGE}), strict=True
    ):
        np.testing.assert_array_equal(found[name], expected)


@several
@given(wholes())
def test_every_feature_is_read_later_and_has_a_batch_axis(given: Whole) -> None:
    stages = cut(given.model, given.exits)
    known, unread = {"image"}, set[str]()
    for stage, outputs in zip(stages, given.exits, strict=True):
        inputs = {value.name for value in stage.graph.input}
        assert inputs <= known
        unread = (unread - inputs) | set(features(stage, outputs))
        known |= unread
        types = [value.type.tensor_type for value in (*stage.graph.input, *stage.graph.output)]
        assert all(each.shape.dim[0].dim_param == "n" for each in types)
    assert not unread


@several
@given(wholes())
def test_without_its_head_a_stage_has_only_the_nodes_of_its_features(given: Whole) -> None:
    stages = cut(given.model, given.exits)
    later: set[str] = set()
    for stage, outputs in reversed(list(zip(stages, given.exits, strict=True))):
        if names := features(stage, outputs):
            trunk = without_head(stage, names)
            assert [value.name for value in trunk.graph.output] == names
            own = {node.output[0] for node in stage.graph.node}
            left_out = own - {node.output[0] for node in trunk.graph.node}
            assert set(outputs) <= left_out
            assert not {n for n in left_out if given.nodes[n].op_type != "Shape"} & later
        later |= given.upstream(outputs)


@several
@given(wholes())
def test_cut_stages_join_to_the_whole_graph(given: Whole) -> None:
    stages = [
        renamed(stage, dict(zip(outputs, EXIT_OUTPUTS, strict=True)))
        for stage, outputs in zip(cut(given.model, given.exits), given.exits, strict=True)
    ]
    again = join(stages)
    onnx.checker.check_model(again, full_check=True)
    assert [value.name for value in again.graph.output] == [n for e in given.exits for n in e]
    names = [name for outputs in given.exits for name in outputs]
    ends = [
        ReferenceEvaluator(model).run(names, {"image": IMAGE}) for model in (again, given.model)
    ]
    for found, expected in zip(*ends, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_graph_without_weights_has_their_shapes_and_everything_else() -> None:
    given = whole([helper.make_node("Mul", ["real", "weight"], ["late"])], ["late"]).model
    made = without_weights(given, ["weight"])
    (weight,) = (tensor for tensor in made.graph.initializer if tensor.name == "weight")
    assert (list(weight.dims), weight.data_type) == ([WIDTH], TensorProto.FLOAT)
    assert len(weight.SerializeToString()) < 50
    made.graph.initializer.remove(weight)
    (values,) = (tensor for tensor in given.graph.initializer if tensor.name == "weight")
    made.graph.initializer.append(values)
    assert made == given


def test_a_tensor_can_cross_several_boundaries() -> None:
    early = helper.make_node("Relu", ["real"], ["early"])
    middle = helper.make_node("Mul", ["early", "weight"], ["middle"])
    late = helper.make_node("Add", ["middle", "early"], ["late"])
    given = whole([early, middle, late], ["early", "middle", "late"])
    one, two, three = cut(given.model, given.exits)
    assert features(one, given.exits[0]) == ["early"]
    assert features(two, given.exits[1]) == ["middle"]
    assert [value.name for value in three.graph.input] == ["middle", "early"]


def test_a_later_exit_can_read_the_image() -> None:
    given = whole([helper.make_node("Cast", ["image"], ["again"], to=1)], ["real", "again"])
    assert [value.name for value in cut(given.model, given.exits)[1].graph.input] == ["image"]


def test_a_graph_that_cannot_be_cut_is_refused_with_the_reason() -> None:
    given = whole([], ["real", "real"])
    with pytest.raises(CutError, match="exit 2 has no nodes of its own"):
        cut(given.model, [given.exits[0], given.exits[0]])
    branch = helper.make_graph([], "branch", [], [])
    given.model.graph.node.append(
        helper.make_node("If", ["real"], ["x"], then_branch=branch, else_branch=branch, name="if?")
    )
    with pytest.raises(CutError, match="node 'if\\?' is control flow"):
        cut(given.model, given.exits)


def test_stages_that_do_not_fit_are_not_joined() -> None:
    given = whole([helper.make_node("Relu", ["real"], ["early"])], ["early", "early"])
    one, two = cut(given.model, given.exits)
    with pytest.raises(CutError, match="stage 2 reads image, which no earlier stage gives"):
        join([two, one])
    two.opset_import[0].version = 19
    with pytest.raises(CutError, match="stage 2 has other operator sets"):
        join([one, two])
