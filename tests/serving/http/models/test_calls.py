"""Calls to one of several models, by name and version."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.answers import problem
from tests.serving.http.models.changing import JPEG, PNG
from tests.serving.http.oip.calls import head, send
from tests.serving.servers import Running, serving


@pytest.fixture(scope="module")
def several(models: Path) -> Iterator[Running]:
    with serving(None, models=models, default_model="dogs", root_path="/api") as running:
        yield running


@pytest.fixture(scope="module")
def client(several: Running) -> Iterator[httpx.Client]:
    with several.client as client:
        yield client


@pytest.mark.parametrize("content", [JPEG, PNG])
@pytest.mark.parametrize(
    ("path", "name", "version"),
    [
        ("/classify", "dogs", "1"),
        ("/models/cats/classify", "cats", "2"),
        ("/models/cats/classify?version=2&budget=low", "cats", "2"),
        ("/models/dogs/classify", "dogs", "1"),
        ("/api/models/cats/classify", "cats", "2"),
    ],
)
def test_the_model_of_the_path_answers_and_says_so(
    client: httpx.Client, path: str, name: str, version: str, content: bytes
) -> None:
    answer = client.post(path, content=content).json()
    assert answer["model"] == {"name": name, "version": version}
    assert answer["answers"][0]["label"].startswith(f"{name}-{version}-class")


def test_pixels_have_a_path_of_their_own(client: httpx.Client) -> None:
    path = "/models/cats/classify/pixels"
    assert client.post(path, content=bytes(32 * 32 * 3)).json()["model"]["name"] == "cats"


@pytest.mark.parametrize("content", [JPEG, PNG])
@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/models/birds/classify", "there is no model 'birds'"),
        ("/models/cats/classify?version=1", "there is no model 'cats' version '1'"),
        ("/classify?version=2", "there is no model 'dogs' version '2'"),
    ],
)
def test_a_model_that_is_not_loaded_is_unknown(
    client: httpx.Client, path: str, says: str, content: bytes
) -> None:
    found = problem(client.post(path, content=content), 404, "unknown-model")
    assert says in found


def test_the_models_are_listed_and_described(client: httpx.Client) -> None:
    assert client.get("/models").json() == {
        "default": "dogs",
        "models": [
            {"name": "cats", "version": "2", "versions": ["2"]},
            {"name": "dogs", "version": "1", "versions": ["1"]},
        ],
    }
    assert client.get("/model").json() == client.get("/models/dogs").json()
    described = client.get("/models/cats").json()
    assert (described["name"], described["version"]) == ("cats", "2")
    problem(client.get("/models/cats?version=1"), 404, "unknown-model")
    problem(client.get("/models/birds"), 404, "unknown-model")


@pytest.mark.parametrize("path", ["/model", "/models/cats", "POST /classify"])
@pytest.mark.parametrize(
    ("query", "kind", "says"),
    [
        ("version=1&version=2", "invalid-parameter", "version: given more than once; give it once"),
        ("verison=1", "unknown-parameter", "there is no query parameter 'verison'; there "),
        ("version=", "invalid-parameter", "version: empty; name a version, or leave it out"),
    ],
)
def test_a_wrong_query_is_refused_by_descriptions_as_by_classify(
    client: httpx.Client, path: str, query: str, kind: str, says: str
) -> None:
    method, path = path.split() if " " in path else ("GET", path)
    for content in (JPEG, PNG) if method == "POST" else (b"",):
        response = client.request(method, f"{path}?{query}", content=content)
        assert says in problem(response, 422, kind)


def test_the_inference_protocol_finds_the_models(client: httpx.Client) -> None:
    document = head([1, 32, 32, 3], "UINT8")
    document["inputs"][0]["data"] = [0] * (32 * 32 * 3)
    for path, version in (("cats", "2"), ("cats/versions/2", "2"), ("dogs", "1")):
        response = send(client, document, path=f"/v2/models/{path}/infer")
        assert response.json()["model_version"] == version
        assert client.get(f"/v2/models/{path}/ready").json()["ready"] is True
        assert client.get(f"/v2/models/{path}").json()["versions"] == [version]
    for path in ("birds", "cats/versions/1"):
        response = send(client, document, path=f"/v2/models/{path}/infer")
        assert (response.status_code, [*response.json()]) == (404, ["error"])
    rows = client.get("/v2/models/stats").json()["model_stats"]
    assert [(row["name"], row["version"]) for row in rows] == [("cats", "2"), ("dogs", "1")]
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    assert client.get("/v2").json()["name"] == "offramp"
    assert client.get("/v2/nothing").status_code == 404
    assert client.get("/v2/repository/index").headers["allow"] == "POST"


def test_the_index_lists_ready_versions_alone_on_request(client: httpx.Client) -> None:
    path = "/v2/repository/index"
    for content, versions in (
        (b"", ["1", "2", "1"]),
        (b'{"ready": false}', ["1", "2", "1"]),
        (b'{"ready": true}', ["2", "1"]),
    ):
        rows = client.post(path, content=content).json()
        assert [row["version"] for row in rows] == versions
    assert "ready: " in client.post(path, content=b'{"ready": 1}').json()["error"]
    assert client.post(path, content=b" " * 5000).status_code == 413


def test_metrics_have_the_model_and_the_version(client: httpx.Client) -> None:
    client.post("/models/cats/classify?budget=low", content=JPEG)
    client.post("/nowhere")
    lines = client.get("/metrics").text.splitlines()
    for name in ("cats", "dogs"):
        version = "2" if name == "cats" else "1"
        labels = f'budget="low",model="{name}",outcome="answered",version="{version}"'
        found = [line for line in lines if f"offramp_requests_total{{{labels}}}" in line]
        assert len(found) == 1
        assert (float(found[0].split()[-1]) > 0) == (name == "cats")
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    assert "offramp_workers 1.0" in lines
    assert any(line.startswith('offramp_problems_total{type="not-found"} ') for line in lines)


def test_a_model_without_free_slots_takes_no_slot_of_another(
    several: Running, client: httpx.Client
) -> None:
    pool = several.app.engine.pool  # of dogs, the default
    slots = pool.take(pool.slots)
    problem(client.post("/classify", content=JPEG), 429, "pool-full")
    assert client.post("/models/cats/classify", content=JPEG).status_code == 200
    for slot in slots:
        pool.give(slot)
    assert client.post("/classify", content=JPEG).status_code == 200


def test_no_call_can_change_models_without_an_admin_key(client: httpx.Client) -> None:
    response = client.post("/v2/repository/models/cats/unload")
    assert response.status_code == 403
    assert "admin key" in response.json()["error"]


def test_without_a_default_a_call_names_its_model(models: Path) -> None:
    with serving(None, models=models) as running, running.client as client:
        for content in (JPEG, PNG):
            found = problem(client.post("/classify", content=content), 404, "unknown-model")
            assert "name a model" in found
        problem(client.get("/model"), 404, "unknown-model")
        assert client.get("/models").json()["default"] is None
        assert client.get("/health/ready").status_code == 200


def test_the_only_model_of_a_bundle_has_a_name_too(bundle: Path) -> None:
    with serving(bundle) as running, running.client as client:
        for path in ("/classify", "/models/testnet/classify", "/classify?version=1"):
            for content in (JPEG, PNG):
                assert client.post(path, content=content).json()["model"]["name"] == "testnet"
        problem(client.post("/models/other/classify", content=JPEG), 404, "unknown-model")
        problem(client.post("/classify?version=2", content=JPEG), 404, "unknown-model")
        assert client.get("/models").json()["default"] == "testnet"
        assert client.get("/models/testnet").json() == client.get("/model").json()
