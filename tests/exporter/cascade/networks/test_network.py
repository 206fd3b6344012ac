from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from exporter.cascade.networks.network import ImageTensor, read_network
from exporter.errors import ExportError
from tests.exporter.cascade.classifiers import LABELS, Classifier


def assert_refused(path: Path, reason: str) -> None:
    with pytest.raises(ExportError, match=reason) as error:
        read_network(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).count(str(path)) == 1


def one_node(path: Path, *shapes: list[int], kind: int = TensorProto.FLOAT) -> Path:
    """Write a graph that adds its inputs."""
    names = [f"input{k}" for k in range(len(shapes))]
    inputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    output = helper.make_tensor_value_info("output", kind, None)
    graph = helper.make_graph([helper.make_node("Sum", names, ["output"])], "sum", inputs, [output])
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    ("classifier", "image"),
    [
        (Classifier(), ImageTensor("photo", "float32", "nchw", None, 24)),
        (Classifier(layout="nhwc"), ImageTensor("photo", "float32", "nhwc", None, 24)),
        (Classifier(batch=1, dtype="uint8"), ImageTensor("photo", "uint8", "nchw", 1, 24)),
        (Classifier(dynamic_size=True), ImageTensor("photo", "float32", "nchw", None, None)),
    ],
)
def test_the_image_is_read_from_the_file(
    classifier: Classifier, image: ImageTensor, tmp_path: Path
) -> None:
    assert read_network(classifier.write(tmp_path / "a.onnx")).image == image


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", '["blue", "green", "red"]'),
        ("names", "{0: 'blue', 1: 'green', 2: 'red'}"),
        ("id2label", '{"2": "red", "0": "blue", "1": "green"}'),
    ],
)
def test_labels_are_read_from_the_metadata(key: str, value: str, tmp_path: Path) -> None:
    path = Classifier(stated=(key, value)).write(tmp_path / "a.onnx")
    assert read_network(path).labels == LABELS


@pytest.mark.parametrize(
    "value", ["blue", "[1, 2]", "{0: 'blue', 7: 'red'}", "{[1]: 2}", "[" * 9999]
)
def test_metadata_without_labels_is_ignored(value: str, tmp_path: Path) -> None:
    path = Classifier(stated=("names", value)).write(tmp_path / "a.onnx")
    assert read_network(path).labels is None


@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    assert_refused(path, "is not an ONNX file")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "a.onnx", "is not a file; give an ONNX file or the folder of a bund")


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    assert_refused(one_node(path, [1, 3, 8, 8], [1, 3, 8, 8]), "it has 2 inputs")
    assert_refused(one_node(path, [1, 100]), "is not an image classifier: its input input0 is fl")
    assert_refused(one_node(path, [1, 3, 8, 8], kind=TensorProto.INT64), "is int64 ")
    assert_refused(one_node(path, [1, 1, 28, 28]), r"\[1, 1, 28, 28\] has no axis of 3 channels")
    assert_refused(one_node(path, [1, 3, 8, 16]), "only square ones are supported")


@pytest.mark.parametrize(
    ("name", "domain", "reason"),
    [
        ("Conv", "com.microsoft.nchwc", "was optimised by ONNX Runtime for one processor"),
        ("DynamicQuantizeLinear", "", "is quantised dynamically, by the largest value of a batch"),
        ("DynamicQuantizeMatMul", "com.microsoft", "is quantised dynamically"),
    ],
)
def test_operators_that_fit_no_stage_are_refused(
    name: str, domain: str, reason: str, tmp_path: Path
) -> None:
    model = Classifier().model()
    model.graph.node.append(helper.make_node(name, ["answer"], ["more"], domain=domain))
    onnx.save(model, tmp_path / "a.onnx")
    assert_refused(tmp_path / "a.onnx", reason)


def test_a_height_that_only_the_width_states_is_the_same(tmp_path: Path) -> None:
    model = Classifier().model()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    onnx.save(model, tmp_path / "a.onnx")
    assert read_network(tmp_path / "a.onnx").size == 24


def test_axes_that_an_old_converter_states_as_minus_1_are_dynamic(tmp_path: Path) -> None:
    model = Classifier().model()
    for axis in (0, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = -1
    onnx.save(model, tmp_path / "a.onnx")
    image = ImageTensor("photo", "float32", "nchw", None, None)
    assert read_network(tmp_path / "a.onnx").image == image


def test_control_flow_is_refused(tmp_path: Path) -> None:
    model = Classifier().model()
    branch = helper.make_graph([], "branch", [], [])
    model.graph.node.append(
        helper.make_node("If", ["yes"], ["more"], then_branch=branch, else_branch=branch)
    )
    onnx.save(model, tmp_path / "a.onnx")
    assert_refused(tmp_path / "a.onnx", "has control flow")


def test_weights_in_another_file_are_read_and_refused_if_it_is_missing(tmp_path: Path) -> None:
    path, model = tmp_path / "a.onnx", Classifier().model()
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    kernel = read_network(path).model.graph.initializer[0]
    assert np.prod(kernel.dims) * 4 == len(kernel.raw_data)
    (tmp_path / "weights").unlink()
    assert_refused(path, r"has weights in other files \(external data\), which cannot be read")


def test_old_operators_are_converted(tmp_path: Path) -> None:
    network = read_network(Classifier(opset=11).write(tmp_path / "a.onnx"))
    assert network.opset >= 13
    assert network.original.opset_import[0].version == 11  # what stages are compared with
