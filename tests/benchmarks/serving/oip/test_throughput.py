"""The load of gRPC over real connections, and the figures of the doors."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest

from benchmarks.serving.oip.doors import BARE, GRPC, HTTP, NATIVE
from benchmarks.serving.oip.forms import JPEG, PIXELS, forms_of
from benchmarks.serving.oip.grpc_load import LARGEST_MESSAGE, send_calls
from benchmarks.serving.oip.load import Measured, table
from benchmarks.serving.oip.throughput import goals
from offramp.bundle.manifest import ImageInput
from serving.grpc.stubs import open_inference_pb2 as pb
from tests.serving.small_bundle import png, random_images

INPUT = ImageInput(height=32, width=32, fit="stretch", filter="bilinear")


@contextmanager
def served(largest: int) -> Iterator[int]:
    """Serve a method of gRPC that takes messages of at most so many bytes. Yield the port."""
    method = grpc.unary_unary_rpc_method_handler(lambda *_: b"answer")
    service = "inference.GRPCInferenceService"
    server = grpc.server(
        ThreadPoolExecutor(2),
        handlers=[grpc.method_handlers_generic_handler(service, {"ModelInfer": method})],
        options=[("grpc.max_receive_message_length", largest)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()


def test_calls_are_sent_in_a_closed_loop_and_counted() -> None:
    messages = [bytes(size) for size in (1, 100, 20_000)]
    with served(1 << 20) as port:
        found = send_calls(port, messages, connections=3, seconds=0.1)
    assert found.answered
    assert len(found.latency) > 3
    assert 0.1 <= found.wall < 30
    with served(50) as port:
        assert not send_calls(port, messages, connections=1, seconds=0.05).answered
    with pytest.raises(ValueError, match="use smaller images"):
        send_calls(0, [bytes(LARGEST_MESSAGE + 1)], 1, 1)


@pytest.mark.parametrize("form", [JPEG, PIXELS])
def test_every_door_gets_the_same_image(form: str) -> None:
    images = random_images(2, 3)
    forms = forms_of([png(image) for image in images], form, INPUT, "low")
    for number, image in enumerate(images):
        body = forms.native().bodies[number]
        assert body == (png(image) if form == JPEG else image.tobytes())
        assert forms.http().bodies[number].endswith(body)
        message = pb.ModelInferRequest.FromString(forms.grpc("m").bodies[number])
        assert message.raw_input_contents[0].endswith(body)
        assert message.parameters["budget"].string_param == "low"


def test_doors_are_compared_round_by_round() -> None:
    bare = dict.fromkeys(BARE.values(), (9, 9, 9))
    rates = {NATIVE: (100, 200, 300), HTTP: (91, 190, 100), GRPC: (80, 150, 400)} | bare
    found = {
        name: [Measured(name, rate, 1.0, 100 / rate) for rate in each]
        for name, each in rates.items()
    }
    lines = table("door", "native", found, lambda _: found[NATIVE])
    assert "| HTTP, binary | 100 [91, 190] | 0.91 [0.33, 0.95] |" in "\n".join(lines)
    assert [goal.met for goal in goals(found)] == [True, True, False, False]
