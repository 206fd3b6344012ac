"""JSON bodies: base64 in every form that clients send, and bounds before parsing."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import MalformedBodyError
from serving.http.bodies.json_images import read_json
from tests.timing import least_cpu_seconds

MEGABYTE = 1 << 20
FILE = bytes(range(256)) * 3  # its base64 has both characters that differ between the alphabets


def body_of(*images: object) -> bytes:
    return json.dumps({"images": images}).encode()


def wrapped(text: str, end: str) -> str:
    return end.join(text[at : at + 76] for at in range(0, len(text), 76)) + end


TEXT = base64.b64encode(FILE).decode()
FORMS: dict[str, str] = {
    "plain": TEXT,
    "lines of MIME": wrapped(TEXT, "\r\n"),
    "lines": wrapped(TEXT, "\n"),
    "alphabet for URLs": base64.urlsafe_b64encode(FILE).decode(),
    "data URI": f"data:image/jpeg;base64,{TEXT}",
    "data URI in capitals": f"DATA:image/png;BASE64,{TEXT}",
    "data URI without a type": f"data:;base64,{TEXT}",
    "data URI with parameters": f"data:image/png;name=a.png;base64,{TEXT}",
    "data URI with lines": f"data:image/jpeg;base64,{wrapped(TEXT, chr(10))}",
    "line ends around": f"\r\n{TEXT}\n",
    "data URI after a line end": f"\ndata:image/x-icon;base64,{TEXT}",
}


@pytest.mark.parametrize("form", FORMS)
def test_base64_is_read_in_every_usual_form(form: str) -> None:
    assert read_json(body_of(FORMS[form], TEXT), 2) == [FILE, FILE]


@pytest.mark.parametrize("data", [b"", b"h", b"hi", b"hello"])
def test_padding_is_optional(data: bytes) -> None:
    padded = base64.b64encode(data).decode()
    assert read_json(body_of(padded, padded.rstrip("=")), 2) == [data, data]


def test_escaped_characters_are_read() -> None:
    escaped = TEXT.replace("+", "\\u002B").replace("/", "\\/")
    assert read_json(f'{{"\\u0069mages": ["{escaped}"]}}'.encode(), 1) == [FILE]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "invalid JSON"),
        (b"{", "invalid JSON"),
        (b'{"images": ["aGk="], "images": []}', "'images' is given more than once"),
        (b'{"images": ["aGk="]} {}', "invalid JSON"),
        (b'{"images": ["\xff"]}', "invalid JSON"),
        (b"[]", "body: not an object"),
        (b"{}", "images: missing"),
        (b'{"images": null}', "images: not a list"),
        (b'{"images": "aGk="}', "images: not a list"),
        (b'{"image": ["aGk="]}', "'image': there is no such field"),
        (b'{"images": ["aGk="], "x": 1}', "'x': there is no such field"),
        (b'{"images": ["aGk=", 1, {}]}', "images.1: not a string"),
        (b'{"images": ["aGk=", null]}', "images.1: not a string"),
        (b'{"images": ["a b!"]}', "images.0: invalid base64"),
        (b'{"images": ["aGk=aGk="]}', "images.0: invalid base64"),
        (b'{"images": ["a"]}', "images.0: invalid base64"),
        ('{"images": ["é"]}'.encode(), "images.0: characters that are not base64"),
        (b'{"images": ["data:image/png,abc"]}', "images.0: a data URI without ';base64,'"),
        (b'{"images": ["data:abc"]}', "images.0: a data URI without ';base64,'"),
        (body_of(*["aGk="] * 4), "4 images; send 1 to 3"),
        (b"[" * 1000, "more than 76 lists"),
        (b'{"a":' * 1000, "more than 76 objects"),
        (b'{"images": [' + b"1," * 1000, "more than 76 commas"),
        (b":" * 1000, "more than 76 colons"),
    ],
)
def test_the_first_error_is_named(body: bytes, says: str) -> None:
    with pytest.raises(MalformedBodyError) as raised:
        read_json(body, 3)
    assert says in str(raised.value)
    assert 'send {"images"' in str(raised.value) or "send 1 to 3" in str(raised.value)
    assert len(str(raised.value)) < 250


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda size: b'{"images":[' + b"1," * (size // 2) + b"1]}",
    "objects": lambda size: b'{"images":[' + b"{}," * (size // 3) + b"1]}",
    "strings": lambda size: b'{"images":[' + b'"",' * (size // 3) + b"1]}",
    "depth": lambda size: b"[" * size,
    "keys": lambda size: b"{" + b'"a":1,' * (size // 6) + b'"b":1}',
    "one key": lambda size: b'{"' + b"a" * size + b'":1}',
    "space": lambda size: b" " * size,
    "one number": lambda size: b'{"images":[' + b"1" * size + b"]}",
    "escapes": lambda size: b'{"images":["' + b"\\n" * (size // 2) + b'"]}',
    "wide characters": lambda size: b'{"images":["' + "😀".encode() * (size // 4) + b'"]}',
    "padding": lambda size: b'{"images":["' + b"=" * size + b'"]}',
    "backslashes": lambda size: b'{"images":["' + b"\\" * size,
    "commas in a URI": lambda size: b'{"images":["data:' + b"," * size + b'"]}',
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_time_and_memory_of_a_megabyte_are_bounded(attack: str) -> None:
    body = HOSTILE[attack](MEGABYTE)

    def read() -> None:
        try:
            images = read_json(body, 16)
        except MalformedBodyError:
            images = []
        assert not any(images)

    tracemalloc.start()
    read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MEGABYTE
    assert least_cpu_seconds(read, 0.1) < 0.1


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.sampled_from(["", "\r\n"]))
def test_every_encoded_file_comes_back(files: list[bytes], end: str) -> None:
    texts = [wrapped(base64.b64encode(file).decode(), end) for file in files]
    assert read_json(body_of(*texts), 5) == files


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(st.sampled_from(["images", "a", ""]), inner, max_size=3)
        ),
    )
)
def test_any_other_json_is_refused_or_read(document: object) -> None:
    try:
        images = read_json(json.dumps(document).encode(), 3)
    except MalformedBodyError:
        return
    assert isinstance(document, dict)
    assert len(images) == len(document["images"])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(body: bytes) -> None:
    try:
        images = read_json(body, 3)
    except MalformedBodyError:
        return
    assert len(images) == len(json.loads(body)["images"])
