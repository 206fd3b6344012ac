"""The API over real HTTP: a server in a thread, clients on loopback."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.http.schemas import ClassifyQuery, ModelDescription
from tests.serving.answers import labels, problem

FLOPS = [100_000, 250_000, 430_000, 700_000]


@pytest.fixture(scope="module")
def files(images, encode):
    return [encode(image) for image in images(64, 21)]


def counters(client):
    samples = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def total(samples, name, **labels):
    return sum(v for seen, v in samples[name] if labels.items() <= seen.items())


# --- queries --------------------------------------------------------------------------------


def test_budgets_order_the_depth(client, files) -> None:
    depth = {}
    for budget in ("low", "medium", "full", "25%", "100%", "0.7M"):
        answers = [client.post("/classify", params={"budget": budget}, content=f) for f in files]
        depth[budget] = np.mean([labels(answer)[0][1] for answer in answers])
        assert answers[0].json()["budget"] == budget
    assert 1 < depth["low"] < depth["medium"] < depth["full"] == 4
    assert depth["25%"] <= depth["100%"]
    assert depth["0.7M"] == depth["100%"]


def test_explain_shows_each_exit_on_the_way(client, files) -> None:
    query = {"min_confidence": 0.99, "explain": "true"}
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
def test_queries_that_will_not_do(client, files, query, kind, says) -> None:
    assert says in problem(client.post(f"/classify?{query}", content=files[0]), 422, kind)


# --- bad images, while others are under way ---------------------------------------------------


def test_bad_input_is_answered_and_disturbs_nobody(client, server, files) -> None:
    alone = [labels(client.post("/classify", content=file)) for file in files]
    bad = [
        (b"", 400, "empty-body"),
        (b"hello", 415, "not-an-image"),
        (files[0][: len(files[0]) // 2], 422, "damaged-image"),
        (b"x" * ((16 << 20) + 1), 413, "body-too-large"),
    ]
    with ThreadPoolExecutor(16) as pool, server.client as shared:
        good = [pool.submit(shared.post, "/classify", content=file) for file in files]
        calls = [(pool.submit(shared.post, "/classify", content=b), *end) for b, *end in bad * 4]
        for call, status, kind in calls:
            assert len(problem(call.result(), status, kind)) > 20
        assert [labels(call.result()) for call in good] == alone


def test_one_bad_image_of_several_is_named(client, files, server) -> None:
    form = [("images", (f"{i}.png", file)) for i, file in enumerate([files[0], b"?", files[1]])]
    assert "image 2: this" in problem(client.post("/classify", files=form), 415, "not-an-image")
    assert server.free_slots() == 256


# --- load -------------------------------------------------------------------------------------


def test_a_full_pool_is_429_with_retry_after(serve, bundle, gated, files, wait_until) -> None:
    with serve(bundle, slots=2, max_images=2) as server, server.client as client:
        server.gate(gated)
        gated.shut(0)
        with ThreadPoolExecutor(2) as pool:
            held = [pool.submit(client.post, "/classify", content=files[0]) for _ in range(2)]
            wait_until(lambda: server.free_slots() == 0)
            response = client.post("/classify", content=files[0])
            assert "Retry-After" in problem(response, 429, "pool-full")
            assert response.headers["retry-after"] == "1"
            gated.open()
            assert all(labels(call.result()) for call in held)
        assert labels(client.post("/classify", content=files[0]))
        assert total(counters(client), "offramp_requests_total", outcome="refused") == 1


def test_who_hangs_up_gives_the_slot_back(serve, bundle, gated, files, wait_until) -> None:
    with serve(bundle, threads=1, max_batch=1) as server, server.client as client:
        server.gate(gated)
        gated.shut(0)
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(files[0])}\r\n\r\n"
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        for each in clients:
            each.sendall(head.encode() + files[0])
        wait_until(lambda: server.free_slots() == 251)
        for each in clients:
            each.close()
        wait_until(
            lambda: total(counters(client), "offramp_requests_total", outcome="cancelled") == 5
        )
        assert server.free_slots() >= 255, "one may be running, and comes back with its batch"
        gated.open()
        wait_until(lambda: server.free_slots() == 256)


def test_who_hangs_up_behind_a_large_body_is_heard_of(
    serve, bundle, gated, files, wait_until
) -> None:
    body = files[0] + bytes(100_000)  # what comes after the picture is not looked at
    with serve(bundle, threads=1, max_batch=1) as server, server.client as client:
        server.gate(gated)
        gated.shut(0)
        head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(head.encode())
            time.sleep(0.1)  # the body is asked for before it comes
            raw.sendall(body)
            wait_until(lambda: server.free_slots() == 255)
        wait_until(
            lambda: total(counters(client), "offramp_requests_total", outcome="cancelled") == 1
        )
        gated.open()
        wait_until(lambda: server.free_slots() == 256)


def test_who_hangs_up_in_the_middle_of_the_body_is_no_error(server, client, caplog) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    assert client.get("/health/ready").status_code == 200
    assert caplog.text == ""


def test_deadlines(serve, bundle, gated, files) -> None:
    with serve(bundle) as server, server.client as client:
        server.gate(gated)
        gated.shut(1)
        query = {"budget": "full", "deadline_ms": 200}
        body = client.post("/classify", params=query, content=files[0]).json()
        assert body["answers"][0]["deadline_hit"]
        assert body["answers"][0]["exit"] == 1
        assert 190 <= body["answers"][0]["timings_ms"]["total"] < 2000
        gated.shut(0)
        response = client.post("/classify", params=query, content=files[0])
        assert "before the first exit" in problem(response, 504, "deadline")
        gated.open()


def test_a_deadline_that_passes_in_decoding(server, client, encode) -> None:
    slow = encode(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), dtype=np.uint8))
    response = client.post("/classify?deadline_ms=8", content=slow)
    assert "deadline_ms passed while decoding" in problem(response, 504, "deadline")
    assert server.free_slots() == 256


def test_a_stage_that_fails_is_500_and_the_next_call_is_fine(serve, bundle, gated, files) -> None:
    with serve(bundle) as server, server.client as client:
        server.gate(gated)
        gated.fail_at = 0
        detail = problem(client.post("/classify", content=files[0]), 500, "stage-failed")
        assert "fell over" not in detail  # what is ours to know is in the log
        gated.fail_at = None
        assert labels(client.post("/classify", content=files[0]))


# --- the rest ---------------------------------------------------------------------------------


def test_metrics_add_up(serve, bundle, files) -> None:
    with serve(bundle) as server, server.client as client, ThreadPoolExecutor(16) as pool:
        budgets = ["low", "medium", "high", "full", "60%"]

        def classify(i):
            params = {"budget": budgets[i % 5]} if i % 6 else {"min_confidence": 0.6}
            return client.post("/classify", params=params, content=files[i]).json()["answers"][0]

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


def test_full_depth_is_one_batch_of_all_stages_where_nobody_asks_more(serve, bundle, files) -> None:
    def stages(client):
        counted = counters(client)["offramp_batch_size_sum"]
        return {seen["stage"]: value for seen, value in counted}

    with serve(bundle) as server, server.client as client:
        query = {"budget": "full"}
        (plain,) = client.post("/classify", params=query, content=files[0]).json()["answers"]
        assert (plain["exit"], plain["flops"]) == (4, 640_000)
        assert stages(client) == {"1": 0, "2": 0, "3": 0, "4": 0, "all": 1}
        query["explain"] = "true"
        (told,) = client.post("/classify", params=query, content=files[0]).json()["answers"]
        assert (told["exit"], told["flops"], len(told["explain"])) == (4, 700_000, 4)
        assert stages(client) == {"1": 1, "2": 1, "3": 1, "4": 1, "all": 1}
        assert told["label"] == plain["label"]
        assert told["confidence"] == pytest.approx(plain["confidence"], abs=1e-5)


def test_the_model_is_described(client, manifest) -> None:
    described = ModelDescription.model_validate_json(client.get("/model").content)
    assert described.labels == manifest.labels
    assert described.full_flops == 640_000  # no head but the last


def test_health(client) -> None:
    assert client.get("/health/live").json() == {"status": "live"}
    assert client.get("/health/ready").json() == {"status": "ready"}


def test_probes_by_head_and_a_method_that_is_not_allowed(client) -> None:
    assert client.head("/health/ready").status_code == 200
    assert client.head("/health/live").status_code == 200
    assert "POST only" in problem(client.get("/classify"), 405, "method-not-allowed")
    assert "is not served" in problem(client.get("/nowhere"), 404, "not-found")


def test_not_ready_while_shutting_down(server, client) -> None:
    engine = server.app.state.service.engine
    engine.refusal = "stopping"
    try:
        assert problem(client.get("/health/ready"), 503, "not-ready") == "stopping"
    finally:
        engine.refusal = None


def test_the_key_guards_classify_and_model(serve, bundle, files) -> None:
    with serve(bundle, api_key="s3cret") as server, server.client as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}):
            response = client.post("/classify", content=files[0], headers=headers)
            assert "Authorization: Bearer" in problem(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            problem(client.get("/model", headers=headers), 401, "unauthorized")
        right = {"authorization": "Bearer s3cret"}
        assert labels(client.post("/classify", content=files[0], headers=right))
        assert client.get("/model", headers=right).status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert client.get("/metrics").status_code == 200


def test_openapi_describes_bodies_answers_and_problems(client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    classify = paths["/classify"]["post"]
    pixels = "application/vnd.offramp.uint8"
    kinds = {"image/*", "multipart/form-data", "application/json", pixels}
    assert set(classify["requestBody"]["content"]) == kinds
    assert set(classify["responses"]) == {"200", "4XX", "5XX"}
    answer = classify["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Classification"}
    assert set(paths) == {"/classify", "/model", "/health/live", "/health/ready", "/metrics"}
    assert client.get("/docs").status_code == 200


def test_openapi_describes_every_parameter(client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/classify"]["post"]["parameters"]
    places = {each["name"]: (each["in"], each["required"]) for each in described}
    assert places == dict.fromkeys(ClassifyQuery.model_fields, ("query", False))
    for each in described:
        assert each["description"] == ClassifyQuery.model_fields[each["name"]].description
    schema = {each["name"]: each["schema"] for each in described}
    assert (schema["top_k"]["minimum"], schema["top_k"]["maximum"]) == (1, 100)


def test_openapi_describes_the_key_where_there_is_one(serve, bundle, client) -> None:
    with serve(bundle, api_key="s3cret") as server, server.client as guarded:
        paths = guarded.get("/openapi.json").json()["paths"]
    for path, method in (("/classify", "post"), ("/model", "get")):
        assert paths[path][method]["security"] == [{"HTTPBearer": []}]
    assert "security" not in paths["/health/live"]["get"]
    assert "security" not in client.get("/openapi.json").json()["paths"]["/classify"]["post"]
