"""The load of gRPC over real connections, and the figures of the doors."""

from __future__ import annotations

import pytest

from benchmarks.serving.oip.doors import BARE, GRPC, HTTP, NATIVE
from benchmarks.serving.oip.forms import JPEG, PIXELS, forms_of
from benchmarks.serving.oip.grpc_load import LARGEST_MESSAGE, send_calls
from benchmarks.serving.oip.load import Measured
from benchmarks.serving.oip.throughput import goals, table
from offramp.bundle.manifest import ImageInput
from serving.grpc.stubs import open_inference_pb2 as pb
from tests.serving.grpc.http2.client import served
from tests.serving.small_bundle import png, random_images

INPUT = ImageInput(height=32, width=32, fit="stretch", filter="bilinear")


def test_calls_are_sent_in_a_closed_loop_and_counted() -> None:
    messages = [bytes(size) for size in (1, 100, 20_000)]
    with served(calls=8) as server:
        found = send_calls(server.port, messages, connections=3, seconds=0.1)
        assert found.answered
        assert len(found.latency) > 3
        assert 0.1 <= found.wall < 30
    with served(message_bytes=50) as server:
        assert not send_calls(server.port, messages, connections=1, seconds=0.05).answered
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
    rates = {NATIVE: (100, 200, 300), HTTP: (90, 190, 100), GRPC: (80, 150, 400), BARE: (9, 9, 9)}
    found = {
        name: [Measured(name, rate, 1.0, 100 / rate) for rate in each]
        for name, each in rates.items()
    }
    assert "| HTTP, binary | 100 [90, 190] | 0.90 [0.33, 0.95] |" in "\n".join(table(found))
    assert [goal.met for goal in goals(found)] == [True, False]
