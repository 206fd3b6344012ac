"""Wrong, hostile and refused requests over real HTTP: each gets an error with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving.http.oip.calls import INFER, LENGTH, elements, head, send, send_files
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import png, random_images


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png(image) for image in random_images(4, 21)]


def refused(response: httpx.Response, status: int) -> str:
    """Return the text of an error in the form of the protocol."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    (text,) = response.json().values()
    assert list(response.json()) == ["error"]
    return str(text)


def with_input(**fields: Any) -> dict[str, Any]:
    """Return the JSON of a request of one element, with other fields of its input."""
    document = head([1])
    document["inputs"][0] |= {"data": ["QUJD"], **fields}
    return document


WIDE = [2**31, 2**31, 2**31, 2**31]
MANY = b'{"inputs":[' + b"{}," * 1_000_000 + b"{}]}"
DEEP = b'{"inputs":' + b"[" * 3000 + b"]" * 3000 + b"}"
JSON_ATTACKS: dict[str, tuple[object, str]] = {
    "no JSON": (b"{", "invalid JSON"),
    "a field twice": (b'{"inputs":[],"inputs":[]}', "'inputs' is given more than once"),
    "no object": ([], "the request is not an object"),
    "no inputs": ({}, "0 inputs; send one"),
    "a million inputs": (MANY, "more than 576 objects"),
    "deep": (DEEP, "invalid JSON"),
    "very deep": (b"[" * 1_000_000, "more than"),
    "two inputs": ({"inputs": 2 * head([1])["inputs"]}, "2 inputs; send one"),
    "an unknown field": ({"output": []}, "'output'"),
    "another input": (with_input(name="picture"), "there is no input 'picture'"),
    "another datatype": (with_input(datatype="FP32"), "the datatype is 'FP32'"),
    "a datatype that is no text": (with_input(datatype=[]), "the datatype is 'list'"),
    "a shape that is no list": (with_input(shape=1), "no list of integers"),
    "a shape of texts": (with_input(shape=["1"]), "no list of integers"),
    "a shape of booleans": (with_input(shape=[True]), "no list of integers"),
    "an empty shape": (with_input(shape=[]), "no list of integers"),
    "a wide shape": (with_input(shape=WIDE), "is not its shape"),
    "a wide shape of pixels": (with_input(shape=WIDE, datatype="UINT8"), "is not its shape"),
    "too many images": (with_input(shape=[17]), "17 images; send 1 to 16"),
    "many images": (with_input(shape=[2**31, 1]), "2147483648 images"),
    "a negative shape": (with_input(shape=[-1]), "-1 images"),
    "fewer elements": (with_input(shape=[2]), "1 elements, and its shape has 2"),
    "no data": (head([1]), "data: null is not a list"),
    "data that are no base64": (with_input(data=["A"]), "element 0: invalid base64"),
    "numbers as files": (with_input(data=[1]), "element 0: not a string"),
    "texts as pixels": (
        with_input(data=["A"], datatype="UINT8", shape=[1, 32, 32, 3]),
        "not integers from 0 to 255",
    ),
    "booleans as pixels": (
        with_input(data=[True] * 3072, datatype="UINT8", shape=[1, 32, 32, 3]),
        "not integers from 0 to 255",
    ),
    "large numbers": (
        with_input(data=[256], datatype="UINT8", shape=[1, 32, 32, 3]),
        "not integers from 0 to 255",
    ),
    "channels before rows": (
        with_input(data=[3 * [32 * [32 * [0]]]], datatype="UINT8", shape=[1, 32, 32, 3]),
        "lists of another shape than [1, 32, 32, 3]",
    ),
    "lists of several lengths": (
        with_input(data=[[0] * 3071, [0]], datatype="UINT8", shape=[2, 32, 32, 3]),
        "lists of another shape than [2, 32, 32, 3]",
    ),
    "few pixels": (
        with_input(data=[0], datatype="UINT8", shape=[1, 32, 32, 3]),
        "the body has 1 bytes",
    ),
    "another size": (with_input(datatype="UINT8", shape=[1, 16, 16, 3]), "is not its shape"),
    "shared memory": (
        with_input(parameters={"shared_memory_region": "a"}),
        "no parameter 'shared_memory_region'",
    ),
    "another content type": (with_input(parameters={"content_type": "pd"}), "content_type is 'pd'"),
    "a long id": (head([1], id="x" * 1025), "id: "),
    "a number as id": (head([1], id=7), "id: "),
    "another version": (head([1], model_version="2"), "'1' answers here, not '2'"),
    "another version as a number": (head([1], model_version=2), "'1' answers here, not 2"),
    "a version that is no text": (head([1], model_version=True), "'1' answers here, not true"),
    "another output": (head([1], outputs=[{"name": "logits"}]), "there is no output 'logits'"),
    "a list as output": (head([1], outputs=[{"name": ["exit"]}]), "there is no output 'list'"),
    "an output twice": (head([1], outputs=2 * [{"name": "exit"}]), "requested twice"),
    "explain without its parameter": (head([1], outputs=[{"name": "explain"}]), "explain=true"),
    "classes of an exit": (
        head([1], outputs=[{"name": "exit", "parameters": {"classification": 2}}]),
        "of probabilities only",
    ),
    "many classes": (
        head([1], outputs=[{"name": "probabilities", "parameters": {"classification": 101}}]),
        "from 0 to 100",
    ),
    "parameters that are no object": (head([1], parameters=[]), "parameters: not an object"),
}


@pytest.mark.parametrize("name", JSON_ATTACKS)
def test_a_wrong_request_is_refused_with_the_reason(
    client: httpx.Client, server: Running, name: str
) -> None:
    document, says = JSON_ATTACKS[name]
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert says in refused(client.post(INFER, content=body), 400)
    assert server.free_slots() == 256


GOOD = elements([b"abc"])
BINARY_ATTACKS: dict[str, tuple[dict[str, Any], bytes, str]] = {
    "truncated": (head([1], data=GOOD), GOOD[:-1], "binary_data_size is 7, and 6 bytes follow"),
    "more bytes": (head([1], data=GOOD), GOOD + b"?", "7, and 8 bytes follow"),
    "a size of none": (head([1]), GOOD, "7 bytes after the JSON"),
    "an element that ends later": (
        head([1], data=GOOD),
        b"\xff\xff\xff\xff" + GOOD[4:],
        "element 0 has 4294967295 bytes, and 3 are left",
    ),
    "an element that ends earlier": (
        head([1], data=GOOD),
        b"\x01" + GOOD[1:],
        "2 bytes after its 1 elements",
    ),
    "no second element": (head([2], data=GOOD), GOOD, "before the length of element 1"),
    "a short length": (head([1], data=b"\0\0"), b"\0\0", "before the length of element 0"),
    "pixels of another number": (
        head([2, 32, 32, 3], "UINT8", bytes(3072)),
        bytes(3072),
        "1 images in its bytes, and its shape has 2",
    ),
    "too few pixels": (
        head([1, 32, 32, 3], "UINT8", bytes(3071)),
        bytes(3071),
        "the body has 3071 bytes",
    ),
    "long JSON": (head([1], data=GOOD, id="x" * 70_000), GOOD, "of JSON before binary data"),
}


@pytest.mark.parametrize("name", BINARY_ATTACKS)
def test_a_wrong_binary_tensor_is_refused_with_the_reason(
    client: httpx.Client, server: Running, name: str
) -> None:
    document, data, says = BINARY_ATTACKS[name]
    assert says in refused(send(client, document, data), 400)
    assert server.free_slots() == 256


@pytest.mark.parametrize("length", ["9" * 30, "99999", "-1", "1.5", "", "1, 2", "0x1"])
def test_a_wrong_length_of_the_json_is_refused(client: httpx.Client, length: str) -> None:
    response = client.post(INFER, content=b"{}", headers={LENGTH: length})
    assert "is no length in a body of 2 bytes" in refused(response, 400)


def test_two_lengths_of_the_json_are_refused(client: httpx.Client) -> None:
    response = client.post(INFER, content=b"{}", headers=[(LENGTH, "0"), (LENGTH, "2")])
    assert "several headers" in refused(response, 400)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"buget": "low"}, "there is no query parameter 'buget'"),
        ({"budget": "cheap"}, "'cheap' is not one of"),
        ({"budget": "x" * 257}, "budget: more than 256 characters"),
        ({"budget": ["low"]}, "budget: 'list' is not a string, number or boolean"),
        ({"budget": "low", "min_confidence": 0.5}, "exclude each other"),
        ({"timeout": "soon"}, "timeout: 'soon' is not an integer"),
        ({"timeout": -1}, "timeout: -1 is not an integer of microseconds, 0 or above"),
        ({"timeout": 1.5}, "timeout: 1.5 is not"),
        ({"timeout": True}, "timeout: true is not"),
        ({"budget": None}, "budget: null is not a string, number or boolean"),
        ({"timeout": 1}, "an idle server needs"),
        ({"deadline_ms": 0.001, "timeout": 10_000_000}, "an idle server needs"),
    ],
)
def test_a_wrong_parameter_is_refused_as_by_the_native_api(
    client: httpx.Client, files: list[bytes], parameters: dict[str, Any], says: str
) -> None:
    assert says in refused(send_files(client, files[:1], parameters=parameters), 422)


def test_a_parameter_in_the_url_and_in_the_body_is_refused(
    client: httpx.Client, files: list[bytes]
) -> None:
    data = elements(files[:1])
    document = head([1], data=data, parameters={"budget": "low"})
    response = send(client, document, data, f"{INFER}?budget=low")
    assert "budget: given more than once" in refused(response, 422)


def test_errors_of_images_have_the_native_status(bundle: Path, files: list[bytes]) -> None:
    with serving(bundle, max_body_bytes=20_000) as server, server.client as client:
        assert "this is not a JPEG" in refused(send_files(client, [b"?"]), 415)
        assert "there are no bytes" in refused(send_files(client, [b""]), 400)
        assert "cannot be decoded" in refused(send_files(client, [files[0][:100]]), 422)
        assert "20000 bytes" in refused(send_files(client, [bytes(20_000)]), 413)
        encoded = client.post(INFER, content=b"{}", headers={"Content-Encoding": "gzip"})
        assert "Content-Encoding" in refused(encoded, 415)


def test_errors_of_the_server_have_the_native_status(bundle: Path, files: list[bytes]) -> None:
    with serving(bundle, slots=4, max_images=4) as server, server.client as client:
        policy = server.app.served.models.find_default().classify.query_reader.read(b"").policy
        with server.app.engine.admit(1, policy):
            full = send_files(client, files[:4])
        refused(full, 429)
        assert int(full.headers["retry-after"]) >= 1
        server.app.engine.refusal = closed = "closed for a test"
        assert refused(send_files(client, files[:1]), 503) == closed
        for path in ("/v2/health/ready", "/v2/models/testnet/ready"):
            assert refused(client.get(path), 503) == closed
        (model,) = client.post("/v2/repository/index").json()
        assert (model["state"], model["reason"]) == ("UNAVAILABLE", closed)
