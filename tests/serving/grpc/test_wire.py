"""A message is split into its tensors and the rest before it is parsed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import MalformedBodyError
from serving.grpc.stubs import open_inference_pb2 as pb
from serving.grpc.wire import MAX_REST_BYTES, split
from tests.serving.grpc.calls import request

FIELD_7, FIELD_5, FIELD_9 = b"\x3a", b"\x2a", b"\x4a"


@settings(max_examples=30)
@given(
    raw=st.lists(st.binary(max_size=300), max_size=2),
    elements=st.lists(st.binary(max_size=300), max_size=3),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
    budget=st.text(max_size=20),
)
def test_the_parts_are_those_of_the_parser(
    raw: list[bytes], elements: list[bytes], shape: list[int], budget: str
) -> None:
    message = request(shape, budget=budget, top_k=3, deadline_ms=1.5)
    message.inputs[0].contents.bytes_contents.extend(elements)
    message.raw_input_contents.extend(raw)
    message.outputs.add(name="label").parameters["classification"].int64_param = 2
    found = split(message.SerializeToString(), 16)
    assert [bytes(each) for each in found.raw] == raw
    assert [bytes(each) for each in found.elements] == elements
    del message.inputs[0].contents.bytes_contents[:], message.raw_input_contents[:]
    assert pb.ModelInferRequest.FromString(found.rest) == message


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (FIELD_5 + b"\0" + 1_000_000 * (FIELD_5 + b"\0"), "more than 576 fields"),
        (1_000_000 * (FIELD_7 + b"\0"), "more than 576 fields"),
        (FIELD_7 + b"\x05abc", "ends after its 5 bytes"),
        (FIELD_7 + b"\xff" * 9 + b"\x01", "ends after its"),
        (FIELD_7 + b"\xff" * 20, "without an end"),
        (b"\x80", "without an end"),
        (b"\x3b\x3c", "unknown type"),
        (FIELD_9 + b"\x80\x80\x08" + bytes(1 << 17), "bytes besides its tensors"),
        (FIELD_5 + b"\x84\x80\x08" + FIELD_9 + b"\x80\x80\x08" + bytes(1 << 17), "besides"),
        (20 * (FIELD_5 + b"\xd3\x1f" + FIELD_9 + b"\xd0\x1f" + bytes(4048)), "besides"),
    ],
)
def test_a_message_over_a_bound_is_refused(message: bytes, says: str) -> None:
    with pytest.raises(MalformedBodyError, match=says):
        split(message, 16)


@given(st.binary(max_size=200))
def test_any_bytes_are_split_or_refused(message: bytes) -> None:
    try:
        found = split(message, 16)
    except MalformedBodyError:
        return
    assert len(found.rest) <= min(MAX_REST_BYTES, len(message) + 20)
