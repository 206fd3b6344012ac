"""The endpoints of the protocol besides inference, over real HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import offramp
from tests.serving.http.oip.calls import INFER, outputs, send_files
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import png, random_images

MODEL = "/v2/models/testnet"


@pytest.mark.parametrize("model", [MODEL, f"{MODEL}/versions/1"])
def test_server_and_model_are_described(client: httpx.Client, model: str) -> None:
    server = client.get("/v2").json()
    assert (server["name"], server["version"]) == ("offramp", offramp.__version__)
    assert {"binary_tensor_data", "classification", "statistics"} <= set(server["extensions"])
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert client.get(f"{model}/ready").json() == {"name": "testnet", "ready": True}
    metadata, config = client.get(model).json(), client.get(f"{model}/config").json()
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    assert [(each["name"], each["datatype"], each["shape"]) for each in metadata["outputs"]] == [
        ("label", "BYTES", [-1]),
        ("index", "INT64", [-1]),
        ("probability", "FP32", [-1]),
        ("confidence", "FP32", [-1]),
        ("exit", "INT64", [-1]),
        ("flops", "INT64", [-1]),
        ("probabilities", "FP32", [-1, 10]),
    ]
    assert (metadata["name"], metadata["versions"]) == ("testnet", ["1"])
    assert config["max_batch_size"] == 16
    assert config["input"] == [{"name": "image", "data_type": "TYPE_STRING", "dims": [1]}]
    assert [each["name"] for each in config["output"]] == [o["name"] for o in metadata["outputs"]]
    for path in (f"{model}/stats", "/v2/models/stats"):
        assert [each["name"] for each in client.get(path).json()["model_stats"]] == ["testnet"]
    assert client.post("/v2/repository/index", json={"ready": True}).json() == [
        {"name": "testnet", "version": "1", "state": "READY", "reason": ""}
    ]


INDEX = "/v2/repository/index"


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"{", 400, "no JSON object"),
        (b"[]", 400, "no JSON object"),
        (b'{"ready": "yes"}', 400, "ready: neither true nor false"),
        (b'{"ready": null}', 400, "ready: neither true nor false"),
        (b'{"ready": true, "ready": false}', 400, "'ready' is given more than once"),
        (b'{"state": "READY"}', 400, "'state', and 'ready' alone is known"),
        (b" " * 5000, 413, "4096 bytes; send its parameters alone"),
    ],
)
def test_a_wrong_body_of_the_index_is_refused(
    client: httpx.Client, content: bytes, status: int, says: str
) -> None:
    response = client.post(INDEX, content=content)
    assert (response.status_code, [*response.json()]) == (status, ["error"])
    assert says in response.json()["error"]
    encoded = client.post(INDEX, content=b"{}", headers={"Content-Encoding": "gzip"})
    assert encoded.status_code == 415


def test_the_index_lists_ready_versions_alone_on_request(
    server: Running, client: httpx.Client
) -> None:
    server.app.engine.refusal = "closed for a test"
    try:
        for content in (b"", b"{}", b'{"ready": false}'):
            (row,) = client.post(INDEX, content=content).json()
            assert row["state"] == "UNAVAILABLE"
        assert client.post(INDEX, json={"ready": True}).json() == []
    finally:
        server.app.engine.refusal = None


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/v2/models/other", 404, "there is no model 'other'; this server has 'testnet'"),
        ("GET", f"{MODEL}/versions/2/config", 404, "'testnet' version '2'"),
        ("POST", "/v2/models/other/infer", 404, "there is no model 'other'"),
        ("POST", f"{MODEL}/versions/2/infer", 404, "version '2'"),
        ("GET", "/v2/models", 404, "/v2/models is not served"),
        ("GET", "/v2/models//infer", 404, "is not served"),
        ("POST", f"{MODEL}/versions//infer", 404, "is not served"),
        ("GET", f"{MODEL}/versions/", 404, "is not served"),
        ("POST", "/v2/repository/models/testnet/load", 404, "start it with --models"),
        ("GET", INFER, 405, "answers POST only"),
        ("POST", MODEL, 405, "answers GET, HEAD only"),
        ("DELETE", "/v2", 405, "answers GET, HEAD only"),
    ],
)
def test_other_calls_are_refused_in_the_form_of_the_protocol(
    client: httpx.Client, method: str, path: str, status: int, says: str
) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/json"
    assert says in response.json()["error"]


def test_a_key_guards_all_but_health(bundle: Path) -> None:
    paths = ("/v2", MODEL, f"{MODEL}/config", f"{MODEL}/stats")
    with serving(bundle, api_key="s3cret") as server, server.client as client:
        for path in ("/v2/health/live", "/v2/health/ready", f"{MODEL}/ready"):
            assert client.get(path).status_code == 200
        for response in (
            *(client.get(path) for path in paths),
            client.post("/v2/repository/index"),
            client.post(INFER, content=b"{}"),
            client.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": "2"}),
        ):
            assert response.status_code == 401
            assert "API key" in response.json()["error"]
            assert response.headers["www-authenticate"] == "Bearer"
        client.headers["Authorization"] = "Bearer s3cret"
        assert {client.get(path).status_code for path in paths} == {200}
        assert len(outputs(send_files(client, [png(random_images(1, 1)[0])]))["label"]) == 1


def test_a_proxy_can_keep_or_remove_its_prefix_and_pages_can_call(bundle: Path) -> None:
    file = png(random_images(1, 1)[0])
    shop = "https://shop.example"
    with (
        serving(bundle, root_path="/offramp", cors_origins=shop) as server,
        server.client as client,
    ):
        client.headers["Origin"] = shop
        plain = outputs(send_files(client, [file]))
        client.base_url = httpx.URL(f"{server.url}/offramp")
        response = send_files(client, [file])
        assert response.headers["access-control-allow-origin"] == shop
        assert outputs(response)["label"].tolist() == plain["label"].tolist()
        assert client.get("/v2/models/testnet").json()["name"] == "testnet"
