"""Headers are decoded as RFC 7541 says, within bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.grpc.http2 import huffman
from serving.grpc.http2.frames import ConnectionFailedError
from serving.grpc.http2.hpack import MAX_LIST_BYTES, HeaderDecoder, encode

# RFC 7541, C.4: three requests of one connection, with Huffman codes.
EXAMPLES = {
    "828684418cf1e3c2e5f23a6ba0ab90f4ff": [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ],
    "828684be5886a8eb10649cbf": [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf": [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
}
# C.6: three responses, whose table has 256 bytes, so that entries are evicted.
RESPONSES = {
    "3fe101"
    "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863"
    "c78f0b97c8e9ae82ae43d3": (b":status", b"302"),
    "4883640effc1c0bf": (b":status", b"307"),
    "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b"
    "3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007": (b":status", b"200"),
}


def test_the_examples_of_the_standard_are_decoded() -> None:
    decoder = HeaderDecoder()
    for block, fields in EXAMPLES.items():
        assert [*decoder.decode(bytes.fromhex(block))] == fields
    decoder = HeaderDecoder()
    found = [decoder.decode(bytes.fromhex(block)) for block in RESPONSES]
    assert [fields[0] for fields in found] == [*RESPONSES.values()]
    assert found[1][1:] == found[0][1:]
    assert dict(found[2])[b"set-cookie"].startswith(b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU;")
    assert dict(found[2])[b"location"] == b"https://www.example.com"


def test_equal_blocks_have_the_headers_of_their_time() -> None:
    decoder = HeaderDecoder()
    added = [b"\x40\x01a" + bytes((1, value)) for value in b"xyz"]
    for value, block in zip(b"xyz", added, strict=True):
        assert decoder.decode(block) == ((b"a", bytes((value,))),)
        first, second = decoder.decode(b"\xbe"), decoder.decode(b"\xbe")
        assert first is second
        assert first == ((b"a", bytes((value,))),)


@given(st.binary(max_size=60))
def test_every_text_is_decoded_from_its_code(text: bytes) -> None:
    bits = "".join(f"{code:0{size}b}" for code, size in (huffman.codes()[byte] for byte in text))
    bits += "1" * (-len(bits) % 8)
    coded = int(bits or "0", 2).to_bytes(len(bits) // 8)
    assert huffman.decode(coded) == text


@given(st.binary(max_size=100))
def test_any_block_is_decoded_or_refused(block: bytes) -> None:
    decoder = HeaderDecoder()
    for _ in range(2):
        try:
            decoder.decode(block)
        except ConnectionFailedError:
            return


@given(st.lists(st.tuples(st.binary(max_size=200), st.binary(max_size=300)), max_size=5))
def test_what_the_server_encodes_is_decoded(fields: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(encode(*field) for field in fields)
    assert [*HeaderDecoder().decode(block)] == fields


LARGE = b"\x40\x01a\x7f\x81\x1f" + bytes(4096)  # an entry that does not fit into the table
ENTRY = b"\x40\x01a\x7f\x81\x1e" + bytes(3968)


@pytest.mark.parametrize(
    ("block", "says"),
    [
        (ENTRY + 5 * b"\xbe", f"more than {MAX_LIST_BYTES} bytes"),
        (LARGE + b"\xbe", "an index that is not in the table"),
        (b"\x80", "an index that is not in the table"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f", "an integer without an end"),
        (b"\x7f", "an integer without an end"),
        (b"\x40\x01", "ends after its block"),
        (b"\x40", "ends within a header"),
        (b"\x3f\xe2\x1f", "a size of the table that is not allowed"),
        (b"\x82\x20", "a size of the table that is not allowed"),
        (b"\x40\x84\xff\xff\xff\xff\x00", "the end of the code is in a string"),
        (b"\x40\x81\x00\x00", "not padded by ones"),
    ],
)
def test_a_block_over_a_bound_is_refused(block: bytes, says: str) -> None:
    with pytest.raises(ConnectionFailedError, match=says):
        HeaderDecoder().decode(block)
