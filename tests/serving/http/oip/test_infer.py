"""Inference over real HTTP: every form of a request has the answers of the native API."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from serving.http.oip.inputs import InputReader
from tests.serving.answers import counters, total
from tests.serving.http.oip.calls import (
    INFER,
    LENGTH,
    check_equal,
    elements,
    head,
    outputs,
    send,
    send_files,
)
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images

NAMES = ["label", "index", "probability", "confidence", "exit", "flops", "probabilities"]


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return random_images(6, 21)


@pytest.fixture(scope="module")
def files(pixels: NDArray[np.uint8]) -> list[bytes]:
    return [png(image) for image in pixels]


@pytest.fixture(scope="module")
def native(client: httpx.Client, pixels: NDArray[np.uint8]) -> list[dict[str, Any]]:
    response = client.post("/classify/pixels", content=pixels.tobytes())
    answers: list[dict[str, Any]] = response.json()["answers"]
    return answers


def test_binary_files_have_the_native_answers(
    client: httpx.Client, files: list[bytes], native: list[dict[str, Any]]
) -> None:
    response = send_files(client, files, id="seven")
    assert response.headers["content-type"] == "application/octet-stream"
    tensors = outputs(response)
    assert list(tensors) == NAMES
    check_equal(tensors, native)
    document = json.loads(response.content[: int(response.headers[LENGTH])])
    assert {key: document[key] for key in ("model_name", "model_version", "id", "parameters")} == {
        "model_name": "testnet",
        "model_version": "1",
        "id": "seven",
        "parameters": {"budget": "medium"},
    }


@pytest.mark.parametrize("version", ["1", 1, "", None])
def test_a_request_can_repeat_the_version(
    client: httpx.Client, files: list[bytes], version: object
) -> None:
    assert send_files(client, files, model_version=version).status_code == 200


@pytest.mark.parametrize("shape", [[6], [6, 1]])
def test_base64_in_json_has_the_native_answers(
    client: httpx.Client, files: list[bytes], native: list[dict[str, Any]], shape: list[int]
) -> None:
    texts: list[Any] = [base64.b64encode(file).decode() for file in files]
    document = head(shape)
    document["inputs"][0]["data"] = texts if len(shape) == 1 else [[text] for text in texts]
    document["inputs"][0]["parameters"] = {"content_type": "base64"}
    response = send(client, document)
    assert response.headers["content-type"] == "application/json"
    assert LENGTH not in response.headers
    check_equal(outputs(response), native)


def test_base64_in_binary_data_is_decoded_if_the_input_says_so(
    client: httpx.Client, files: list[bytes], native: list[dict[str, Any]]
) -> None:
    data = elements([base64.b64encode(file) for file in files])
    document = head([6], data=data)
    document["inputs"][0]["parameters"]["content_type"] = "base64"
    check_equal(outputs(send(client, document, data)), native)


def test_much_json_and_base64_are_read_on_a_thread(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[str] = []
    decode = InputReader._decoded

    def decoded(texts: list[object]) -> list[bytes]:
        threads.append(threading.current_thread().name)
        return decode(texts)

    monkeypatch.setattr(InputReader, "_decoded", staticmethod(decoded))
    text = base64.b64encode(b"?" * (1 << 18))
    document = head([1])
    document["inputs"][0]["data"] = [text.decode()]
    body = json.dumps(document).encode()
    binary = head([1], data=elements([text]))
    binary["inputs"][0]["parameters"]["content_type"] = "base64"
    with serving(bundle) as server, server.client as client:
        for response in (
            client.post(INFER, content=body),
            client.post(INFER, content=body, headers={LENGTH: str(len(body))}),
            send(client, binary, elements([text])),
        ):
            assert response.status_code == 415, response.text
    assert threads == ["bodies_0"] * 3


@pytest.mark.parametrize("form", ["binary", "flat", "by image", "nested"])
def test_pixels_have_the_native_answers(
    client: httpx.Client, pixels: NDArray[np.uint8], native: list[dict[str, Any]], form: str
) -> None:
    data = pixels.tobytes() if form == "binary" else b""
    document = head([6, 32, 32, 3], "UINT8", data or None)
    if not data:
        shape = {"flat": (-1,), "by image": (6, -1), "nested": pixels.shape}[form]
        document["inputs"][0]["data"] = pixels.reshape(shape).tolist()
    check_equal(outputs(send(client, document, data)), native)


def test_a_body_can_be_the_only_element(
    client: httpx.Client, files: list[bytes], native: list[dict[str, Any]]
) -> None:
    response = client.post(INFER, content=files[0], headers={LENGTH: "0"})
    check_equal(outputs(response), native[:1])


def test_outputs_are_those_that_are_requested_in_their_order(
    client: httpx.Client, files: list[bytes]
) -> None:
    wanted = [
        {"name": "probabilities", "parameters": {"classification": 3, "binary_data": False}},
        {"name": "exit", "parameters": {"binary_data": True}},
        {"name": "label"},
    ]
    response = send_files(client, files, outputs=wanted, parameters={"binary_data_output": False})
    tensors = outputs(response)
    assert list(tensors) == ["probabilities", "exit", "label"]
    assert tensors["probabilities"].shape == (6, 3)
    probability, index, label = tensors["probabilities"][0, 0].split(":")
    assert 0 < float(probability) <= 1
    assert f"class{index}" == label == tensors["label"][0]


def test_parameters_are_those_of_the_native_query(
    client: httpx.Client, files: list[bytes], promise_bundle: Path
) -> None:
    query = {"min_confidence": "0.9", "explain": "true", "top_k": "2"}
    (expected,) = client.post("/classify", content=files[0], params=query).json()["answers"]
    parameters = {"min_confidence": 0.9, "explain": True, "top_k": 2, "timeout": 0}
    ignored = {"priority": 1, "sequence_id": 3, "triton_enable_empty_final_response": False}
    tensors = outputs(send_files(client, files[:1], parameters=parameters | ignored))
    assert list(tensors) == [*NAMES[:-1], "probabilities", "explain"]
    assert json.loads(tensors["explain"][0]) == expected["explain"]
    assert tensors["probabilities"].shape == (1, 2)
    data = elements(files[:1])
    budget = f"{INFER}?budget=low"
    response = send(client, head([1], data=data), data, budget)
    assert response.json()["parameters"] == {"budget": "low"}
    with serving(promise_bundle) as server, server.client as promising:
        response = send(promising, head([1], data=data, parameters={"promise": "90%"}), data)
    assert response.json()["parameters"] == {
        "budget": "promise=90%",
        "promise": "95%",
        "promise_delta": "0.05",
        "promise_kept": True,
    }


def test_answers_can_reject(reject_bundle: Path, files: list[bytes]) -> None:
    with serving(reject_bundle) as server, server.client as client:
        native = client.post("/classify", content=files[0], params={"reject": "true"}).json()
        tensors = outputs(send_files(client, files[:1], parameters={"reject": True}))
    assert tensors["reject"].tolist() == [native["answers"][0]["reject"]]


def test_requests_are_counted_as_those_of_the_native_api(bundle: Path, files: list[bytes]) -> None:
    with serving(bundle) as server, server.client as client:
        for _ in range(3):
            outputs(send_files(client, files, parameters={"budget": "low"}))
        assert send_files(client, [b"?"]).status_code == 415
        samples = counters(client)
        stats = client.get("/v2/models/testnet/stats").json()["model_stats"][0]
        assert server.free_slots() == 256
    assert total(samples, "offramp_requests_total", budget="low", outcome="answered") == 18
    assert total(samples, "offramp_problems_total", type="not-an-image") == 1
    assert stats["inference_count"] == 18
    assert 3 <= stats["execution_count"] <= 18
    parts = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    assert {stats["inference_stats"][part]["count"] for part in parts} == {18}
    assert stats["inference_stats"]["success"]["ns"] > stats["inference_stats"]["queue"]["ns"] > 0


def test_requests_with_equal_json_have_their_own_answers(
    client: httpx.Client, pixels: NDArray[np.uint8], native: list[dict[str, Any]]
) -> None:
    parameters = {"binary_data_output": True}
    document = head([1, 32, 32, 3], "UINT8", pixels[0].tobytes(), parameters=parameters)
    for image, answer in zip(pixels, native, strict=True):
        response = send(client, document, image.tobytes())
        check_equal(outputs(response), [answer])
    low = send(client, document, pixels[0].tobytes(), f"{INFER}?budget=low")
    named = [json.loads(each.content[: int(each.headers[LENGTH])]) for each in (low, response)]
    assert [each["parameters"]["budget"] for each in named] == ["low", "medium"]
    assert send(client, document, pixels.tobytes()).status_code == 400
    for name in ("a", "b", 'a"b', "\u00e9"):
        for identified in (document | {"id": name}, {"id": name} | document):
            answered = send(client, identified, pixels[0].tobytes())
            check_equal(outputs(answered), native[:1])
            assert json.loads(answered.content[: int(answered.headers[LENGTH])])["id"] == name
    assert send(client, {"id": 1025 * "a"} | document, pixels[0].tobytes()).status_code == 400
