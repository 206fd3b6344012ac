"""Spans as a receiver of OTLP gets them, for every kind of request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from benchmarks.otlp import receiving
from serving.images.decoder import Decoder
from tests.serving.grpc.calls import call, with_files
from tests.serving.http.oip.calls import head, send, send_files
from tests.serving.http.tracing.receiver import PARENT, Receiver, Span, traceparent
from tests.serving.models.folders import add_version
from tests.serving.servers import GatedRuntime, Running, WaitUntil, serving
from tests.serving.small_bundle import png, random_images

PIXELS = random_images(3, 0)
JPEG, PNG = png(PIXELS[0], "JPEG"), png(PIXELS[0])
Headers = dict[str, str]
Send = Callable[[Running, Headers], object]


def over_http(send_to: Callable[[httpx.Client], httpx.Response]) -> Send:
    def run(server: Running, headers: Headers) -> object:
        with server.client as client:
            client.headers.update(headers)
            return send_to(client)

    return run


def classify(
    body: bytes, path: str = "/classify?budget=low", timeout: float = 30, **headers: str
) -> Send:
    return over_http(
        lambda client: client.post(path, content=body, headers=headers, timeout=timeout)
    )


def in_json(client: httpx.Client) -> httpx.Response:
    document = head([1, 32, 32, 3], "UINT8", id="seven")
    document["inputs"][0]["data"] = PIXELS[0].ravel().tolist()
    return send(client, document)


def over_grpc(server: Running, headers: Headers) -> object:
    message = with_files([JPEG], budget="low")
    message.id = "seven"
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        metadata = tuple(headers.items())
        return call(channel, "ModelInfer", message.SerializeToString(), metadata=metadata)


NAMED = "POST /models/{name}/classify"
CLASSIFY, OIP = "POST /classify", "POST /v2/models/{name}/infer"
GRPC = "inference.GRPCInferenceService/ModelInfer"
REQUESTS: dict[str, tuple[str, Send]] = {
    "fast path": (CLASSIFY, classify(JPEG)),
    "normal path": (CLASSIFY, classify(PNG)),
    "fast path by name": (NAMED, classify(JPEG, "/models/testnet/classify?budget=low")),
    "normal path by name": (NAMED, classify(PNG, "/models/testnet/classify?budget=low")),
    "three images": (
        "POST /classify/pixels",
        classify(PIXELS.tobytes(), "/classify/pixels?budget=low"),
    ),
    "full depth": (CLASSIFY, classify(JPEG, "/classify?budget=full")),
    "stream": (CLASSIFY, classify(JPEG, accept="text/event-stream")),
    "protocol": (OIP, over_http(lambda client: send_files(client, [JPEG], id="seven"))),
    "protocol in JSON": (OIP, over_http(in_json)),
    "gRPC": (GRPC, over_grpc),
}
TRACES = {name: number for number, name in enumerate(REQUESTS, 1)}
WITH_ID, REFUSED, UNSAMPLED, FAILED, LATE = 30, 60, 70, 80, 90


@contextmanager
def slow_decoding() -> Iterator[None]:
    """Let small images be decoded in .1 s."""
    decode = Decoder.decode_small

    def slowly(*args: Any) -> Any:
        time.sleep(0.1)
        return decode(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "decode_small", slowly)
        yield


@pytest.fixture(scope="module")
def received(bundle: Path) -> Iterator[Receiver]:
    """Send every kind of request to a server that traces, and stop it, which exports the rest."""
    receiver = Receiver()
    with receiving(receiver.take) as url:
        with serving(bundle, grpc_port=0, otlp_endpoint=url, trace_share=1) as server:
            for name, (_, run) in REQUESTS.items():
                run(server, traceparent(TRACES[name]) | {"tracestate": "vendor=1"})
                named = traceparent(WITH_ID + TRACES[name]) | {"x-request-id": "mine-1"}
                run(server, named)
            classify(JPEG, "/classify?budget=huge")(server, traceparent(REFUSED))
            classify(PNG, "/classify?budget=huge")(server, traceparent(REFUSED + 1))
            with slow_decoding():
                classify(JPEG, "/classify?deadline_ms=90")(server, traceparent(LATE))
            classify(JPEG)(server, traceparent(UNSAMPLED, "00"))
            classify(JPEG)(server, {"x-request-id": "new"})
            over_http(lambda client: client.get("/model"))(server, traceparent(UNSAMPLED))
            classify(JPEG, "/anything/classify")(server, traceparent(UNSAMPLED))
        yield receiver


def children_of(spans: list[Span]) -> list[Span]:
    """Check that spans are a request and its steps, within its time. Return the steps."""
    request, *steps = spans
    for step in steps:
        assert (step.kind, step.parent) == (1, request.id)
        assert request.start <= step.start <= step.end <= request.end
    return steps


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_has_the_clients_span_as_parent_and_a_span_for_each_step(
    received: Receiver, name: str
) -> None:
    spans = received.of(TRACES[name])
    steps = children_of(spans)
    request = spans[0]
    assert (request.name, request.kind, request.parent) == (REQUESTS[name][0], 2, PARENT)
    assert {span.state for span in spans} == {"vendor=1"}
    assert not request.failed
    images = 3 if name == "three images" else 1
    exits = request.attributes["offramp.exits"]
    assert len(exits) == images
    assert steps[0].attributes["offramp.images"] == images
    stages = [f"stage {stage}" for stage in range(1, max(exits) + 1)]
    if name == "full depth":
        stages = ["whole network"]
    names = [step.name for step in steps]
    assert list(dict.fromkeys(names)) == ["decode", "queue", *stages, "answer"]
    assert images > 1 or len(names) == len(stages) + 3
    for stage in steps[2:-1]:
        assert stage.attributes["offramp.batch_size"] >= 1


def test_the_batches_of_a_request_name_its_images(received: Receiver) -> None:
    spans = received.of(TRACES["three images"])
    exits = spans[0].attributes["offramp.exits"]
    ran: dict[int, list[int]] = {}  # images by stage. Both threads can run a part of them.
    for span in spans:
        if stage := span.attributes.get("offramp.stage"):
            members = span.attributes["offramp.images"]
            assert span.attributes["offramp.batch_size"] == len(members)
            ran.setdefault(stage, []).extend(members)
    for stage in range(1, max(exits) + 1):
        reached = [image for image, exit_ in enumerate(exits) if exit_ >= stage]
        assert sorted(ran.pop(stage)) == reached
    assert not ran


@pytest.mark.parametrize("name", REQUESTS)
def test_the_id_of_a_request_is_an_attribute(received: Receiver, name: str) -> None:
    (named,) = [span for span in received.of(WITH_ID + TRACES[name]) if span.kind == 2]
    assert named.attributes["offramp.request_id"] == "mine-1"
    (unnamed,) = [span for span in received.of(TRACES[name]) if span.kind == 2]
    of_message = "seven" if "protocol" in name or name == "gRPC" else None
    assert unnamed.attributes.get("offramp.request_id") == of_message


def test_status_and_protocol_are_attributes(received: Receiver) -> None:
    found = received.of(TRACES["fast path"])[0].attributes
    assert found["http.request.method"] == "POST"
    assert found["http.route"] == "/classify"
    assert found["offramp.budget"] == "low"
    assert found["http.response.status_code"] == 200
    assert received.of(TRACES["gRPC"])[0].attributes["rpc.response.status_code"] == "OK"


def test_a_refused_request_has_a_span_with_its_status(received: Receiver) -> None:
    for trace in (REFUSED, REFUSED + 1):
        (span,) = received.of(trace)
        assert (span.attributes["http.response.status_code"], span.failed) == (422, False)
        assert span.parent == PARENT


def test_a_request_that_is_refused_after_decoding_has_the_spans_until_then(
    received: Receiver,
) -> None:
    request, *steps = received.of(LATE)
    assert (request.attributes["http.response.status_code"], request.failed) == (504, True)
    assert [step.name for step in steps] == ["decode", "queue"]


def test_the_flag_of_the_client_takes_precedence_and_other_requests_are_not_traced(
    received: Receiver,
) -> None:
    assert not received.of(UNSAMPLED)


def test_a_request_without_a_parent_begins_a_trace(received: Receiver) -> None:
    ids = [span for span in received.spans if span.attributes.get("offramp.request_id") == "new"]
    (request,) = ids
    assert request.parent == 0
    assert request.trace > 1 << 64
    assert len(children_of(received.of(request.trace))) >= 4


def test_the_server_is_named(received: Receiver) -> None:
    resource = received.spans[0].resource
    assert resource["service.name"] == "offramp"
    assert resource["offramp.model.name"] == "testnet"


def test_a_failure_and_a_disconnect_are_errors_with_the_batches_that_ran(
    bundle: Path, gated: GatedRuntime, wait_until: WaitUntil
) -> None:
    receiver = Receiver()
    with (
        receiving(receiver.take) as url,
        serving(bundle, otlp_endpoint=url, trace_share=0) as server,
    ):
        server.gate(gated)
        gated.fail_at = 1
        classify(JPEG, "/classify?budget=high")(server, traceparent(FAILED))
        gated.fail_at = None
        gated.shut(0)
        impatient = classify(JPEG, timeout=0.2)
        with pytest.raises(httpx.ReadTimeout):
            impatient(server, traceparent(FAILED + 1))
        wait_until(lambda: not server.server.server_state.connections)
        gated.open()
    failed, cancelled = receiver.of(FAILED), receiver.of(FAILED + 1)
    assert [span.name for span in failed[1:]] == ["decode", "queue", "stage 1", "stage 2"]
    assert failed[0].failed
    assert failed[0].attributes["error.type"] == "500"
    assert cancelled[0].failed
    assert cancelled[0].attributes["error.type"] == "cancelled"


def test_a_receiver_that_does_not_answer_delays_no_request_and_no_shutdown(bundle: Path) -> None:
    with receiving(Receiver().take) as url:
        pass  # nothing listens there any more
    with serving(bundle, otlp_endpoint=url, trace_share=1) as server, server.client as client:
        assert client.post("/classify", content=JPEG).status_code == 200


def test_calls_of_several_models_are_traced(bundle: Path, tmp_path: Path) -> None:
    add_version(tmp_path, bundle, "cats", "1")
    receiver = Receiver()
    with (
        receiving(receiver.take) as url,
        serving(None, models=tmp_path, otlp_endpoint=url, trace_share=0) as server,
    ):
        for trace, body in enumerate((JPEG, PNG), 1):
            classify(body, "/models/cats/classify")(server, traceparent(trace))
    for trace in (1, 2):
        steps = children_of(receiver.of(trace))
        assert [steps[0].name, steps[-1].name] == ["decode", "answer"]
        assert "offramp.model.name" not in steps[0].resource
