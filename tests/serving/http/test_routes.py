"""The API over real HTTP: a server in a thread, clients on loopback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from offramp.bundle.manifest import Manifest
from serving.http.schemas import ModelDescription
from tests.serving.answers import counters, labels, problem, total
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import png, random_images

FLOPS = [100_000, 250_000, 430_000, 700_000]


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    return [png(image) for image in random_images(64, 21)]


# --- queries --------------------------------------------------------------------------------


def test_higher_budgets_reach_deeper_exits(client: httpx.Client, files: list[bytes]) -> None:
    depth = {}
    for budget in ("low", "medium", "full", "25%", "100%", "0.7M"):
        answers = [client.post("/classify", params={"budget": budget}, content=f) for f in files]
        depth[budget] = np.mean([labels(answer)[0][1] for answer in answers])
        assert answers[0].json()["budget"] == budget
    assert 1 < depth["low"] < depth["medium"] < depth["full"] == 4
    assert depth["25%"] <= depth["100%"]
    assert depth["0.7M"] == depth["100%"]


def test_explain_lists_each_exit_on_the_way(client: httpx.Client, files: list[bytes]) -> None:
    query = {"min_confidence": "0.99", "explain": "true"}
    (answer,) = client.post("/classify", params=query, content=files[0]).json()["answers"]
    assert [opinion["exit"] for opinion in answer["explain"]] == list(range(1, answer["exit"] + 1))
    assert answer["explain"][-1]["label"] == answer["label"]
    assert answer["explain"][0]["threshold"] == 0.99


@pytest.mark.parametrize(
    ("query", "kind", "says"),
    [
        ("budget=cheap", "unknown-budget", "low, medium, high, full"),
        ("budget=", "unknown-budget", "low"),
        ("budget=1k", "budget-too-low", "ask for at least"),
        ("budget=0.1%25", "budget-too-low", "ask for at least"),
        ("deadline_ms=-5", "invalid-parameter", "deadline_ms: must be above 0"),
        ("deadline_ms=soon", "invalid-parameter", "deadline_ms"),
        ("min_confidence=1.5", "invalid-parameter", "min_confidence: must be from 0 to 1"),
        ("min_confidence=nan", "invalid-parameter", "min_confidence"),
        ("min_confidence=0.5&budget=low", "invalid-parameter", "exclude"),
        ("top_k=0", "invalid-parameter", "top_k"),
        ("budget=low&budget=high", "invalid-parameter", "budget: given more than once"),
        ("explain=perhaps", "invalid-parameter", "explain"),
        ("buget=low", "unknown-parameter", "'buget'; there are budget, min_confidence"),
    ],
)
def test_a_wrong_query_is_refused_with_the_reason(
    client: httpx.Client, files: list[bytes], query: str, kind: str, says: str
) -> None:
    assert says in problem(client.post(f"/classify?{query}", content=files[0]), 422, kind)


# --- bad images among good ones ----------------------------------------------------------------


def test_bad_images_are_refused_and_do_not_affect_other_calls(
    client: httpx.Client, server: Running, files: list[bytes]
) -> None:
    alone = [labels(client.post("/classify", content=file)) for file in files]
    bad = [
        (b"", 400, "empty-body"),
        (b"hello", 415, "not-an-image"),
        (files[0][: len(files[0]) // 2], 422, "damaged-image"),
        (b"x" * ((16 << 20) + 1), 413, "body-too-large"),
    ]
    with ThreadPoolExecutor(16) as pool, server.client as shared:
        good = [pool.submit(shared.post, "/classify", content=file) for file in files]
        calls = [pool.submit(shared.post, "/classify", content=body) for body, _, _ in bad * 4]
        for call, (_, status, kind) in zip(calls, bad * 4, strict=True):
            assert len(problem(call.result(), status, kind)) > 20
        assert [labels(call.result()) for call in good] == alone


def test_one_bad_image_of_several_is_named(
    client: httpx.Client, files: list[bytes], server: Running
) -> None:
    form = [("images", (f"{i}.png", file)) for i, file in enumerate([files[0], b"?", files[1]])]
    assert "image 2: this" in problem(client.post("/classify", files=form), 415, "not-an-image")
    assert server.free_slots() == 256


# --- metrics, description, health, key ---------------------------------------------------------


def test_metrics_equal_the_sums_of_all_answers(bundle: Path, files: list[bytes]) -> None:
    with serving(bundle) as server, server.client as client, ThreadPoolExecutor(16) as pool:
        budgets = ["low", "medium", "high", "full", "60%"]

        def classify(i: int) -> dict[str, Any]:
            params = {"budget": budgets[i % 5]} if i % 6 else {"min_confidence": "0.6"}
            answers = client.post("/classify", params=params, content=files[i]).json()["answers"]
            return dict(answers[0])

        answers = list(pool.map(classify, range(64)))
        samples = counters(client)
    assert total(samples, "offramp_requests_total", outcome="answered") == 64
    assert total(samples, "offramp_requests_total") == 64
    for exit_ in range(1, 5):
        seen = total(samples, "offramp_exits_total", exit=str(exit_))
        assert seen == sum(answer["exit"] == exit_ for answer in answers)
    assert total(samples, "offramp_flops_spent_total") == sum(a["flops"] for a in answers)
    assert total(samples, "offramp_flops_full_total") == 64 * 640_000
    assert total(samples, "offramp_request_seconds_count") == 64
    sizes, whole_network = (
        total(samples, "offramp_batch_size_sum", **stage) for stage in ({}, {"stage": "all"})
    )
    assert sizes + 3 * whole_network == sum(a["exit"] for a in answers)
    assert total(samples, "offramp_requests_total", budget="numeric") > 0
    assert total(samples, "offramp_slots_in_use") == 0
    assert total(samples, "offramp_pool_bytes") % (256 * 64) == 0
    assert total(samples, "process_resident_memory_bytes") > 0


def test_full_depth_is_one_batch_of_all_stages_unless_exits_are_evaluated(
    bundle: Path, files: list[bytes]
) -> None:
    def stages(client: httpx.Client) -> dict[str, float]:
        counted = counters(client)["offramp_batch_size_sum"]
        return {seen["stage"]: value for seen, value in counted}

    with serving(bundle) as server, server.client as client:
        query = {"budget": "full"}
        (plain,) = client.post("/classify", params=query, content=files[0]).json()["answers"]
        assert (plain["exit"], plain["flops"]) == (4, 640_000)
        assert stages(client) == {"1": 0, "2": 0, "3": 0, "4": 0, "all": 1}
        query["explain"] = "true"
        (explained,) = client.post("/classify", params=query, content=files[0]).json()["answers"]
        assert (explained["exit"], explained["flops"], len(explained["explain"])) == (4, 700_000, 4)
        assert stages(client) == {"1": 1, "2": 1, "3": 1, "4": 1, "all": 1}
        assert explained["label"] == plain["label"]
        assert explained["confidence"] == pytest.approx(plain["confidence"], abs=1e-5)


def test_the_model_is_described(client: httpx.Client, manifest: Manifest) -> None:
    described = ModelDescription.model_validate_json(client.get("/model").content)
    assert described.labels == manifest.labels
    assert described.full_flops == 640_000  # with the last head only
    assert described.weights is None  # random ones


def test_a_running_server_is_live_and_ready(client: httpx.Client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_probes_can_use_head_and_wrong_methods_are_refused(client: httpx.Client) -> None:
    assert client.head("/health/ready").status_code == 200
    assert client.head("/health/live").status_code == 200
    assert "POST only" in problem(client.get("/classify"), 405, "method-not-allowed")
    assert "is not served" in problem(client.get("/nowhere"), 404, "not-found")


@pytest.mark.parametrize("path", ["/openapi.json", "/model", "/v2", "/v2/health/live"])
def test_a_path_that_answers_get_allows_head_too(client: httpx.Client, path: str) -> None:
    assert client.head(path).status_code == 200
    assert client.options(path).headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/model?version={}", "/models/{}", "/models/testnet?version={}"])
def test_a_parameter_of_another_form_is_a_problem(client: httpx.Client, path: str) -> None:
    before = total(counters(client), "offramp_problems_total", type="invalid-parameter")
    detail = problem(client.get(path.format("a" * 65)), 422, "invalid-parameter")
    assert "at most 64 characters" in detail
    assert detail.startswith("name: " if path == "/models/{}" else "version: ")
    after = total(counters(client), "offramp_problems_total", type="invalid-parameter")
    assert after == before + 1


def test_not_ready_while_shutting_down(server: Running, client: httpx.Client) -> None:
    engine = server.app.engine
    engine.refusal = "stopping"
    try:
        assert problem(client.get("/health/ready"), 503, "not-ready") == "stopping"
    finally:
        engine.refusal = None


def test_classify_and_model_require_the_key(bundle: Path, files: list[bytes]) -> None:
    with serving(bundle, api_key="s3cret") as server, server.client as client:
        wrong: list[dict[str, str]] = [
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": "Basic s3cret"},
        ]
        for headers in wrong:
            response = client.post("/classify", content=files[0], headers=headers)
            assert "Authorization: Bearer" in problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            problem(client.get("/model", headers=headers), 401, "unauthorized")
        key = b"Bearer s3cret"
        for several in ([key, key], [b"Bearer wrong", key], [key, b"Basic abc"]):
            lines = [(b"Authorization", value) for value in several]
            for content in (files[0], png(random_images(1, 0)[0], "JPEG")):
                response = client.post("/classify", content=content, headers=lines)
                assert "several Authorization" in problem(response, 401, "unauthorized")
            problem(client.get("/model", headers=lines), 401, "unauthorized")
        right = {"authorization": "Bearer s3cret"}
        assert labels(client.post("/classify", content=files[0], headers=right))
        assert client.get("/model", headers=right).status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("key", ["k", "two words", "~!{}"])
def test_a_key_is_compared_as_a_whole(bundle: Path, key: str) -> None:
    jpeg = png(random_images(1, 0)[0], "JPEG")
    with serving(bundle, api_key=key) as server, server.client as client:
        for given, status in ((key, 200), (f"{key}x", 401), (key[:-1] + "?", 401)):
            headers = [(b"authorization", b"Bearer " + given.encode())]
            assert client.get("/model", headers=headers).status_code == status
            response = client.post("/classify", content=jpeg, headers=headers)
            assert response.status_code == status
