"""Loads, rollbacks and unloads by calls, in a server that is used meanwhile."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from weakref import ref

import httpx
import pytest

from tests.serving.answers import counters, problem
from tests.serving.http.models.changing import ADMIN, JPEG, PNG, Changing
from tests.serving.http.oip.calls import head
from tests.serving.servers import until

INFER = "/v2/models/cats/infer"
LOAD = "/v2/repository/models/cats/load"


def infer_request(file: bytes) -> bytes:
    """Return the JSON of a request for inference."""
    document = head([1])
    document["inputs"][0]["data"] = [b64encode(file).decode()]
    return json.dumps(document).encode()


@dataclass
class Load:
    """Answers of clients that ask all the time."""

    versions: list[str] = field(default_factory=list)
    wrong: list[object] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, changing: Changing, path: str, content: bytes) -> None:
        headers = changing.client.headers
        with httpx.Client(base_url=changing.running.url, timeout=30, headers=headers) as client:
            while not self.stop.is_set():
                response = client.post(path, content=content)
                if response.status_code != 200:
                    self.wrong.append(response.text)
                    continue
                body = response.json()
                version = body["model"]["version"]
                self.versions.append(version)
                if not body["answers"][0]["label"].startswith(f"cats-{version}-"):
                    self.wrong.append(body)


@contextmanager
def under_load(changing: Changing) -> Iterator[Load]:
    """Ask on the fast path and on the normal one, by name and without."""
    load = Load()
    with ThreadPoolExecutor(3) as clients:
        try:
            for path, content in (
                ("/classify", JPEG),
                ("/models/cats/classify", JPEG),
                ("/models/cats/classify?budget=full", PNG),
            ):
                clients.submit(load.ask, changing, path, content)
            yield load
        finally:
            load.stop.set()


def test_models_change_under_load_and_no_request_fails(changing: Changing) -> None:
    changing.add("2")
    with under_load(changing) as load:
        until(lambda: load.versions)
        changing.load()
        until(lambda: "2" in load.versions)
        assert changing.answer()[0] == "2"
        assert changing.running.app.engine.stage_threads.runtime.warm  # its graphs are those of 1
        damaged = changing.add("3", damaged=True)
        refused = changing.change("load")
        assert refused.status_code == 422
        assert "stage4.onnx" in refused.json()["error"]
        assert changing.answer()[0] == "2"
        changing.load("1")  # a rollback, to a version that is kept
        assert changing.answer()[0] == "1"
        changing.load("2")
    assert load.wrong == []
    assert set(load.versions) == {"1", "2"}
    state, reason = changing.index()["3"]
    assert state == "UNAVAILABLE"
    assert str(damaged / "stage4.onnx") in reason


def test_the_previous_version_is_kept_and_older_ones_are_not(changing: Changing) -> None:
    changing.add("10")
    changing.add("11")
    changing.load("10")
    changing.load("11")
    assert changing.answer("/models/cats/classify", version="10")[0] == "10"
    assert changing.answer("/models/cats/classify", content=PNG, version="10")[0] == "10"
    listed = changing.client.get("/models").json()["models"]
    assert listed == [{"name": "cats", "version": "11", "versions": ["11", "10"]}]
    assert changing.client.get("/v2/models/cats").json()["versions"] == ["11", "10"]
    index = changing.index()
    assert index["11"] == index["10"] == ("READY", "")
    assert index["1"] == ("UNAVAILABLE", "not loaded")
    gone = changing.client.post("/classify?version=1", content=JPEG)
    assert "version '1'" in problem(gone, 404, "unknown-model")
    samples = counters(changing.client)
    for name in ("offramp_slots", "offramp_model_share", "offramp_model_ready"):
        assert {labels["version"]: value for labels, value in samples[name]}.keys() == {"11", "10"}
    shares = {labels["version"]: value for labels, value in samples["offramp_model_share"]}
    assert shares == {"11": 1, "10": 0}
    assert {value for _, value in samples["offramp_model_ready"]} == {1}


def test_a_version_that_changed_on_disk_is_loaded_again(changing: Changing) -> None:
    folder = changing.add("20")
    changing.load("20")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace("cats-20-", "cats-20-new-"))
    assert changing.answer()[1].startswith("cats-20-class")
    engine = ref(changing.running.app.engine)
    changing.running.server.reload()
    until(lambda: changing.answer()[1].startswith("cats-20-new-"))
    until(lambda: engine() is None)  # its memory is free


@pytest.mark.parametrize(
    ("path", "content"),
    [("/classify", JPEG), ("/models/cats/classify", PNG), (INFER, infer_request(PNG))],
)
def test_a_canary_answers_the_same_requests_on_every_path(
    changing: Changing, path: str, content: bytes
) -> None:
    if "30" not in changing.index():
        changing.add("30")
        changing.add("31")
    changing.load("30")
    changing.load("31", share="50%")
    registry = changing.running.app.served.models
    for number in range(12):
        name = f"request-{number}"
        response = changing.client.post(path, content=content, headers={"x-request-id": name})
        body = response.json()
        version = body["model_version"] if path == INFER else body["model"]["version"]
        assert version == (registry.version_for("cats", name.encode()) or "30")
    ignored = {"x-request-id": "not an id"}
    bodies = [
        changing.client.post(path, content=content, headers=ignored).json() for _ in range(40)
    ]
    assert len({str(body.get("model", body.get("model_version"))) for body in bodies}) == 2
    assert changing.answer("/models/cats/classify", version="30")[0] == "30"
    assert changing.answer("/models/cats/classify", version="31")[0] == "31"
    assert changing.index()["31"] == ("READY", "a canary for 0.5 of the calls")
    changing.load("30")  # the rollback
    assert {changing.answer()[0] for _ in range(6)} == {"30"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer clients"}, 401),
        ({"Authorization": f"Bearer {ADMIN}"}, 200),
    ],
)
def test_only_the_admin_key_changes_models(
    changing: Changing, headers: dict[str, str], status: int
) -> None:
    with httpx.Client(base_url=changing.running.url, timeout=30) as client:
        assert client.post(LOAD, headers=headers).status_code == status
        admin = {"Authorization": f"Bearer {ADMIN}"}
        assert client.post("/classify", content=JPEG, headers=admin).status_code == 401
        assert client.get("/models", headers=admin).status_code == 401
        assert client.post("/v2/repository/index", headers=admin).status_code == 200
        assert client.post("/v2/repository/index").status_code == 401


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b'{"parameters": {"version": 99}}', 404, "no version '99' of 'cats'"),
        (b'{"parameters": {"version": "../1"}}', 404, "no version"),
        (b'{"parameters": {"version": []}}', 400, "version"),
        (b'{"parameters": {"version": ""}}', 400, "version: empty; name a version"),
        (b'{"parameters": {"share": 0}}', 400, "share: must be above 0 and up to 1, as in 5%"),
        (b'{"parameters": {"share": "5 percent"}}', 400, "share: must be"),
        (b'{"parameters": {"shadow": "101%"}}', 400, "shadow: must be"),
        (b'{"parameters": {"shadow": 0.5, "share": 0.5}}', 400, "exclude each other"),
        (b'{"parameters": {"verison": "1"}}', 400, "load has no 'verison', only version, share, "),
        (b'{"parameters": {"config": "{}"}}', 400, "load has no 'config'"),
        (b'{"params": {"version": "1"}}', 400, "'params', and 'parameters' alone is known"),
        (b'{"parameters": []}', 400, "no JSON object"),
        (b"[]", 400, "no JSON object"),
        (b"{", 400, "no JSON object"),
        (b'{"parameters": {}, "parameters": {}}', 400, "'parameters' is given more than once"),
        (b" " * 5000, 413, "4096 bytes; send its parameters alone"),
    ],
)
def test_a_wrong_change_is_refused(
    changing: Changing, content: bytes, status: int, says: str
) -> None:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    response = changing.client.post(LOAD, content=content, headers=headers)
    assert response.status_code == status
    assert says in response.json()["error"]


def test_an_unloaded_model_is_unknown_and_comes_back(changing: Changing) -> None:
    assert changing.change("unload").status_code == 200
    assert changing.change("unload").status_code == 404
    for content in (JPEG, PNG):
        gone = changing.client.post("/models/cats/classify", content=content)
        problem(gone, 404, "unknown-model")
    assert changing.client.get("/v2/models/cats/ready").status_code == 404
    assert {state for state, _ in changing.index().values()} == {"UNAVAILABLE"}
    assert changing.client.get("/health/ready").status_code == 503
    assert changing.client.get("/openapi.json").status_code == 503
    assert changing.client.post("/v2/health/ready").status_code == 405
    assert changing.client.get("/v2/health/ready").status_code == 503
    left = counters(changing.client)
    assert not {name for name in left if any("model" in labels for labels, _ in left[name])}
    changing.load("1")
    assert changing.answer()[0] == "1"
    assert changing.client.get("/health/ready").status_code == 200
