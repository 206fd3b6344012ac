"""Files that are in the place of a bundle's files."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import MAX_MANIFEST_BYTES, read_manifest
from offramp.bundle.stage_files import check_weights_inside, read_graph

Place = Callable[[Path], object]


def bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)  # a socket's path is at most 107 bytes
        try:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS: list[tuple[Place, str]] = [
    (os.mkfifo, "is a named pipe"),
    (bind_socket, "is a socket"),
    (endless, "is a device"),
    (Path.mkdir, "is a folder"),
]


@pytest.mark.parametrize("name", ["manifest.json", "stage2.onnx"])
@pytest.mark.parametrize(("place", "says"), KINDS)
def test_only_a_regular_file_is_read(damaged: Path, place: Place, says: str, name: str) -> None:
    manifest = read_manifest(damaged)
    (damaged / name).unlink()
    place(damaged / name)
    with pytest.raises(BundleError) as caught:
        read_graph(
            damaged, (manifest if name != "manifest.json" else read_manifest(damaged)).stages[1]
        )
    assert f"{name}: {says}" in str(caught.value)


def test_a_link_to_a_regular_file_is_read(damaged: Path) -> None:
    manifest = read_manifest(damaged)
    (damaged / "manifest.json").rename(damaged / "elsewhere")
    (damaged / "manifest.json").symlink_to("elsewhere")
    assert read_manifest(damaged) == manifest


def test_a_large_file_is_not_read_to_its_end(damaged: Path) -> None:
    with (damaged / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)  # a hole, which is more than any memory
    with pytest.raises(BundleError, match=f"larger than {MAX_MANIFEST_BYTES} bytes"):
        read_manifest(damaged)


def outside(name: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return tensor


def with_weight(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)


def with_constant(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def with_list(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.node.append(helper.make_node("Some", [], ["c"], values=[tensor]))


def with_sparse(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def with_branch(model: onnx.ModelProto, tensor: TensorProto) -> None:
    branch = helper.make_graph([], "branch", [], [], [tensor])
    inner = helper.make_graph([helper.make_node("If", ["b"], [], then_branch=branch)], "i", [], [])
    model.graph.node.append(helper.make_node("Loop", ["n"], ["o"], body=inner))


def with_function(model: onnx.ModelProto, tensor: TensorProto) -> None:
    model.functions.add().node.append(helper.make_node("Constant", [], ["c"], value=tensor))


PLACES = [with_weight, with_constant, with_list, with_sparse, with_branch, with_function]


@given(st.lists(st.tuples(st.sampled_from(PLACES), st.booleans()), max_size=6))
def test_a_tensor_in_another_file_is_found_anywhere(
    parts: list[tuple[Callable[[onnx.ModelProto, TensorProto], None], bool]],
) -> None:
    model = onnx.ModelProto()
    for add, external in parts:
        inside = numpy_helper.from_array(np.zeros(4, np.float32), "inside")
        add(model, outside("away") if external else inside)
    graph = model.SerializeToString()
    if any(external for _, external in parts):
        with pytest.raises(BundleError, match=r"a\.onnx: the weight 'away' .*weights\.bin"):
            check_weights_inside(Path("a.onnx"), graph)
    else:
        check_weights_inside(Path("a.onnx"), graph)


def test_a_graph_with_external_data_is_refused_although_its_hash_is_right(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = damaged / "stage2.onnx"
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    content = json.loads((damaged / "manifest.json").read_text())
    content["stages"][1]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    (damaged / "manifest.json").write_text(json.dumps(content))
    monkeypatch.chdir(damaged)  # where ONNX Runtime would find it
    manifest = read_manifest(damaged)
    with pytest.raises(BundleError, match=r"stage2\.onnx: the weight '.*' is in another file"):
        read_graph(damaged, manifest.stages[1])
