"""The methods over real gRPC: the same answers, bounds, key and counts as over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from serving.grpc.stubs import open_inference_pb2 as pb
from tests.serving.answers import counters, total
from tests.serving.grpc.calls import SERVICE, call, infer, refused, request, with_files
from tests.serving.http.oip.calls import check_equal
from tests.serving.servers import GatedRuntime, Running, WaitUntil, serving
from tests.serving.small_bundle import png, random_images

FILES = [png(image) for image in random_images(6, 21)]


@pytest.fixture(scope="module")
def native(grpc_server: Running) -> list[dict[str, Any]]:
    pixels = random_images(6, 21).tobytes()
    with grpc_server.client as client:
        answers: list[dict[str, Any]] = client.post("/classify/pixels", content=pixels).json()[
            "answers"
        ]
    return answers


def test_every_form_of_a_request_has_the_native_answers(
    channel: grpc.Channel, native: list[dict[str, Any]]
) -> None:
    contents = request([6, 1])
    contents.inputs[0].contents.bytes_contents.extend(FILES)
    pixels = request([6, 32, 32, 3], "UINT8")
    pixels.raw_input_contents.append(random_images(6, 21).tobytes())
    for message in (with_files(FILES), contents, pixels):
        check_equal(infer(channel, message), native)


def test_equal_messages_but_for_id_and_image_have_their_own_answers(
    channel: grpc.Channel, native: list[dict[str, Any]]
) -> None:
    for number, (image, answer) in enumerate(zip(random_images(6, 21), native, strict=True)):
        message = request([1, 32, 32, 3], "UINT8", budget="medium")
        message.id = str(number)
        message.raw_input_contents.append(image.tobytes())
        check_equal(infer(channel, message), [answer])
        sent = message.SerializeToString()
        response = pb.ModelInferResponse.FromString(call(channel, "ModelInfer", sent))
        assert response.id == str(number)
        assert response.parameters["budget"].string_param == "medium"


def test_outputs_and_parameters_are_those_of_the_protocol(channel: grpc.Channel) -> None:
    parameters = {"min_confidence": 0.9, "explain": True, "timeout": 10_000_000, "priority": 1}
    message = with_files(FILES[:1], **parameters)
    message.id = "seven"
    message.outputs.add(name="explain")
    message.outputs.add(name="probabilities").parameters["classification"].int64_param = 2
    sent = message.SerializeToString()
    response = pb.ModelInferResponse.FromString(call(channel, "ModelInfer", sent))
    assert (response.model_name, response.model_version, response.id) == ("testnet", "1", "seven")
    assert response.parameters["budget"].string_param == "min_confidence=0.9"
    tensors = infer(channel, message)
    assert list(tensors) == ["explain", "probabilities"]
    assert json.loads(tensors["explain"][0])[0]["exit"] == 1
    assert tensors["probabilities"].shape == (1, 2)


def test_server_and_model_are_described_as_over_http(
    channel: grpc.Channel, grpc_server: Running
) -> None:
    named = pb.ModelMetadataRequest(name="testnet").SerializeToString()
    with grpc_server.client as client:
        metadata = client.get("/v2/models/testnet").json()
        config = client.get("/v2/models/testnet/config").json()
    found = pb.ModelMetadataResponse.FromString(call(channel, "ModelMetadata", named))
    assert [(o.name, o.datatype, [*o.shape]) for o in found.outputs] == [
        (each["name"], each["datatype"], each["shape"]) for each in metadata["outputs"]
    ]
    described = pb.ModelConfigResponse.FromString(call(channel, "ModelConfig", named)).config
    assert described.max_batch_size == config["max_batch_size"]
    assert described.input[0].data_type == pb.TYPE_STRING
    assert described.HasField("dynamic_batching")
    assert pb.ServerLiveResponse.FromString(call(channel, "ServerLive")).live
    assert pb.ServerReadyResponse.FromString(call(channel, "ServerReady")).ready
    assert pb.ModelReadyResponse.FromString(call(channel, "ModelReady", named)).ready
    assert pb.ServerMetadataResponse.FromString(call(channel, "ServerMetadata")).name == "offramp"
    index = pb.RepositoryIndexResponse.FromString(call(channel, "RepositoryIndex"))
    assert [(each.name, each.state) for each in index.models] == [("testnet", "READY")]


def test_requests_are_counted_as_those_of_the_native_api(bundle: Path) -> None:
    with serving(bundle, grpc_port=0) as server, server.client as client:
        address = f"127.0.0.1:{server.grpc_port}"
        with grpc.insecure_channel(address) as channel, ThreadPoolExecutor(8) as pool:
            message = with_files(FILES, budget="low")
            found = [*pool.map(lambda _: infer(channel, message), range(8))]
            assert refused(channel, "ModelInfer", with_files([b"?"]).SerializeToString())
            stats = pb.ModelStatisticsResponse.FromString(call(channel, "ModelStatistics"))
        samples = counters(client)
        assert server.free_slots() == 256
    for each in found[1:]:
        np.testing.assert_array_equal(each["label"], found[0]["label"])
    assert total(samples, "offramp_requests_total", budget="low", outcome="answered") == 48
    assert total(samples, "offramp_problems_total", type="not-an-image") == 1
    (counted,) = stats.model_stats
    assert counted.inference_count == counted.inference_stats.compute_output.count == 48


def raw(data: bytes, shape: list[int], datatype: str = "BYTES") -> Any:
    made = request(shape, datatype)
    made.raw_input_contents.append(data)
    return made


def twice() -> Any:
    made = with_files(FILES[:1])
    made.raw_input_contents.append(b"")
    return made


ATTACKS = {
    "no message": (b"\xff", "without an end"),
    "no input": (pb.ModelInferRequest(model_name="testnet"), "0 inputs; send one"),
    "a million inputs": (1_000_000 * b"\x2a\0", "more than 576 fields"),
    "a wide shape": (raw(b"", [2**31] * 4), "is not its shape"),
    "many images": (raw(b"", [2**31]), "2147483648 images"),
    "another datatype": (raw(b"", [1], "FP32"), "the datatype is 'FP32'"),
    "no tensor": (request([1]), "0 elements BYTES, and its shape has 1"),
    "pixels as contents": (
        request([1, 32, 32, 3], "UINT8"),
        "image: send UINT8 in raw_input_contents",
    ),
    "two tensors": (twice(), "send raw_input_contents once"),
    "an element that ends later": (raw(b"\xff" * 4, [1]), "element 0 has 4294967295 bytes"),
    "few pixels": (raw(bytes(3071), [1, 32, 32, 3], "UINT8"), "the body has 3071 bytes"),
    "an unknown parameter": (with_files(FILES, buget="low"), "no query parameter 'buget'"),
    "an empty parameter": (
        pb.ModelInferRequest(model_name="testnet", parameters={"budget": pb.InferParameter()}),
        "is not a string, number or boolean",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_wrong_request_is_refused_with_the_reason(
    channel: grpc.Channel, grpc_server: Running, name: str
) -> None:
    message, says = ATTACKS[name]
    sent = message if isinstance(message, bytes) else message.SerializeToString()
    code, text = refused(channel, "ModelInfer", sent)
    assert (code, says in text) == ("INVALID_ARGUMENT", True), text
    assert grpc_server.free_slots() == 256


def test_each_kind_of_error_has_its_status(channel: grpc.Channel) -> None:
    other = pb.ModelConfigRequest(name="other").SerializeToString()
    for method in ("ModelConfig", "ModelMetadata", "ModelReady", "ModelStatistics"):
        assert refused(channel, method, other)[0] == "NOT_FOUND"
    assert refused(channel, "ModelInfer", request([1], model="other").SerializeToString()) == (
        "NOT_FOUND",
        "there is no model 'other'; this server has 'testnet' version '1'",
    )
    assert refused(channel, "TraceSetting")[0] == "UNIMPLEMENTED"
    assert refused(channel, "ModelReady", b"\x0a\xff")[0] == "INVALID_ARGUMENT"
    code, text = refused(channel, "ModelReady", bytes(5000))
    assert (code, "send its fields alone" in text) == ("INVALID_ARGUMENT", True)
    assert refused(channel, "ModelInfer", bytes(17 << 20))[0] == "RESOURCE_EXHAUSTED"
    compressed = {"compression": grpc.Compression.Gzip}
    assert refused(channel, "ModelInfer", bytes(1 << 20), **compressed)[0] == "UNIMPLEMENTED"


def test_a_key_guards_all_but_health(bundle: Path) -> None:
    sent = with_files(FILES[:1]).SerializeToString()
    with (
        serving(bundle, grpc_port=0, api_key="s3cret") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        assert call(channel, "ServerReady")
        for metadata in ((), (("authorization", "Bearer wrong"),)):
            for method in ("ModelInfer", "ServerMetadata", "ModelStatistics"):
                code, text = refused(channel, method, sent, metadata=metadata)
                assert (code, "API key" in text) == ("UNAUTHENTICATED", True)
        assert call(channel, "ModelInfer", sent, metadata=(("authorization", "Bearer s3cret"),))


def test_a_call_ends_at_its_deadline_or_when_its_client_cancels(
    bundle: Path, gated: GatedRuntime, wait_until: WaitUntil
) -> None:
    sent = with_files(FILES[:1]).SerializeToString()
    with serving(bundle, grpc_port=0, slots=1, max_images=1) as server, server.client as client:
        server.gate(gated)
        gated.shut(0)
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            future = channel.unary_unary(f"{SERVICE}ModelInfer").future(sent)
            wait_until(gated.entered[0].is_set)
            code, _ = refused(channel, "ModelInfer", sent)
            assert code == "RESOURCE_EXHAUSTED"
            future.cancel()
            wait_until(lambda: outcomes(client)["cancelled"] == 1)
            gated.open()
            wait_until(lambda: server.free_slots() == 1)
            gated.shut(0)
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"{SERVICE}ModelInfer")(sent, timeout=0.2)
            assert caught.value.code().name == "DEADLINE_EXCEEDED"
            wait_until(lambda: outcomes(client)["expired"] == 1)
            gated.open()
            wait_until(lambda: server.free_slots() == 1)
            assert infer(channel, with_files(FILES[:1]))["label"].shape == (1,)


def test_a_message_must_arrive_in_time(bundle: Path) -> None:
    end = threading.Event()

    def never() -> Iterator[bytes]:
        end.wait(30)
        yield from ()

    with (
        serving(bundle, grpc_port=0, body_seconds=0.2) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        send = channel.stream_unary(f"{SERVICE}ModelInfer")
        with pytest.raises(grpc.RpcError) as late:
            send(never(), timeout=30)
        end.set()
        with pytest.raises(grpc.RpcError) as empty:
            send(iter(()), timeout=30)
        assert call(channel, "ModelInfer", with_files(FILES).SerializeToString())
    assert late.value.code().name == "DEADLINE_EXCEEDED"
    assert "the message took more than 0.2 s" in late.value.details()
    assert (empty.value.code().name, empty.value.details()) == (
        "INVALID_ARGUMENT",
        "the call has no message",
    )


def outcomes(client: httpx.Client) -> dict[str, float]:
    samples = counters(client)
    return {
        name: total(samples, "offramp_requests_total", outcome=name)
        for name in ("cancelled", "expired")
    }
