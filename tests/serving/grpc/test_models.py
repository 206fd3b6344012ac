"""Several models over gRPC: inference by name, and the calls of the repository."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from serving.grpc.stubs import open_inference_pb2 as pb
from tests.serving.answers import counters
from tests.serving.grpc.calls import call, infer, refused, with_files
from tests.serving.models.folders import add_version
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import png, random_images

IMAGE = png(random_images(1, 0)[0])
ADMIN = "the admin's"


@pytest.fixture(scope="module")
def several(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    for name, version in (("cats", "1"), ("cats", "2"), ("dogs", "1")):
        add_version(folder, bundle, name, version)
    key = folder / "key"
    key.write_text(ADMIN)
    with serving(None, models=folder, admin_key_file=key, grpc_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def channel(several: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{several.grpc_port}") as channel:
        yield channel


def label(channel: grpc.Channel, model: str, version: str = "") -> str:
    message = with_files([IMAGE], model=model)
    message.model_version = version
    found: str = infer(channel, message)["label"][0]
    return found


def load(version: str = "") -> bytes:
    message = pb.RepositoryModelLoadRequest(model_name="cats")
    if version:
        message.parameters["version"].string_param = version
    return bytes(message.SerializeToString())


def test_the_model_of_the_request_answers(channel: grpc.Channel) -> None:
    assert label(channel, "cats").startswith("cats-2-")
    assert label(channel, "cats", "2").startswith("cats-2-")
    assert label(channel, "dogs").startswith("dogs-1-")
    for model, version in (("birds", ""), ("cats", "1")):
        message = with_files([IMAGE], model=model)
        message.model_version = version
        status, _ = refused(channel, "ModelInfer", message.SerializeToString())
        assert status == "NOT_FOUND"
    names = pb.ModelStatisticsResponse.FromString(call(channel, "ModelStatistics")).model_stats
    assert [each.name for each in names] == ["cats", "dogs"]


def test_an_error_of_a_model_is_counted_with_its_labels(
    several: Running, channel: grpc.Channel
) -> None:
    assert refused(channel, "ModelInfer", with_files([b"?"], model="dogs").SerializeToString())
    assert refused(channel, "ModelInfer", with_files([b"?"], model="apes").SerializeToString())
    with several.client as client:
        samples = counters(client)
    problems = [labels for labels, _ in samples["offramp_problems_total"]]
    assert {"type": "not-an-image", "model": "dogs", "version": "1"} in problems
    assert {"type": "unknown-model"} in problems


def test_the_repository_lists_and_changes_the_models(channel: grpc.Channel) -> None:
    index = pb.RepositoryIndexResponse.FromString(call(channel, "RepositoryIndex")).models
    states = [(each.name, each.version, each.state) for each in index]
    assert states == [
        ("cats", "1", "UNAVAILABLE"),
        ("cats", "2", "READY"),
        ("dogs", "1", "READY"),
    ]
    admin = [("authorization", f"Bearer {ADMIN}")]
    assert refused(channel, "RepositoryModelLoad", load("1"))[0] == "UNAUTHENTICATED"
    assert call(channel, "RepositoryModelLoad", load("1"), metadata=admin) == b""
    assert label(channel, "cats").startswith("cats-1-")
    assert refused(channel, "RepositoryModelLoad", load("7"), metadata=admin)[0] == "NOT_FOUND"
    unload = pb.RepositoryModelUnloadRequest(model_name="cats").SerializeToString()
    assert call(channel, "RepositoryModelUnload", unload, metadata=admin) == b""
    ready = pb.ModelReadyRequest(name="cats").SerializeToString()
    assert refused(channel, "ModelReady", ready)[0] == "NOT_FOUND"
    assert call(channel, "RepositoryModelLoad", load(), metadata=admin) == b""
    assert label(channel, "cats").startswith("cats-2-")


def test_one_model_cannot_be_changed(bundle: Path) -> None:
    with (
        serving(bundle, grpc_port=0) as running,
        grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel,
    ):
        assert refused(channel, "RepositoryModelLoad", load())[0] == "PERMISSION_DENIED"
