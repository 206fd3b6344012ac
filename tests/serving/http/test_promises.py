"""`promise=99%`: the cheapest certified point answers, and says whether the promise was kept."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import httpx
import pytest

from offramp.bundle.errors import BundleError
from offramp.bundle.manifest import Manifest, read_manifest
from offramp.bundle.promises import Promise
from tests.serving.answers import counters, problem, total
from tests.serving.servers import GatedRuntime, serving
from tests.serving.small_bundle import png, random_images

PIXELS = {"content-type": "application/vnd.offramp.uint8"}
IMAGES = random_images(16, 3)
LISTED = "offers 99%, 95%, harm:2%"


@pytest.fixture(scope="module")
def manifest(promise_bundle: Path) -> Manifest:
    return read_manifest(promise_bundle)


def classify(client: httpx.Client, **query: str) -> httpx.Response:
    return client.post("/classify", params=query, content=IMAGES.tobytes(), headers=PIXELS)


def offered(manifest: Manifest) -> dict[str, Promise]:
    assert manifest.promises is not None
    return {str(each.level): each for each in manifest.promises.offered}


@pytest.mark.parametrize(
    ("asked", "held_by"),
    [("99%", "99%"), ("97.5%", "99%"), ("95%", "95%"), ("harm:2%", "harm:2%"), ("harm:1%", "99%")],
)
def test_the_cheapest_point_that_holds_the_promise_answers(
    asking: httpx.Client, manifest: Manifest, asked: str, held_by: str
) -> None:
    promise = offered(manifest)[held_by]
    body = classify(asking, promise=asked, explain="true").json()
    assert body["budget"] == f"promise={asked}"
    for answer in body["answers"]:
        steps = [(step["confidence"], step["threshold"]) for step in answer["explain"]]
        assert [threshold for _, threshold in steps] == list(promise.thresholds[: answer["exit"]])
        assert [c >= threshold for c, threshold in steps] == [False] * (len(steps) - 1) + [True]
        expected = {"kind": promise.kind, "epsilon": promise.epsilon, "delta": 0.05, "kept": True}
        assert answer["promise"] == expected


def test_a_budget_can_be_the_name_of_a_promise(asking: httpx.Client) -> None:
    named, asked = (classify(asking, **query) for query in ({"budget": "safe"}, {"promise": "99%"}))
    exits = [[answer["exit"] for answer in each.json()["answers"]] for each in (named, asked)]
    assert exits[0] == exits[1]
    assert named.json()["budget"] == "safe"
    assert all(answer["promise"]["epsilon"] == 0.01 for answer in named.json()["answers"])


def test_answers_without_a_promise_have_no_such_field(asking: httpx.Client) -> None:
    for query in ({}, {"budget": "low"}, {"min_confidence": "0.7", "explain": "true"}):
        assert not any("promise" in each for each in classify(asking, **query).json()["answers"])


def test_small_files_and_pixels_are_promised_alike(asking: httpx.Client) -> None:
    for form in ("JPEG", "PNG"):
        response = asking.post("/classify?promise=99%", content=png(IMAGES[0], form))
        assert response.json()["answers"][0]["promise"]["kept"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("99.5%", f"99.5% is not certified for this bundle, which {LISTED}"),
        ("harm:0.5%", f"harm:0.5% is not certified for this bundle, which {LISTED}"),
        ("often", f"'often' is not a share of answers .* this bundle {LISTED}"),
        ("100%", f"'100%' is not .* above 0% and below 100%; this bundle {LISTED}"),
        ("", f"this bundle {LISTED}"),
    ],
)
def test_what_is_not_certified_is_refused_with_what_is_offered(
    asking: httpx.Client, asked: str, says: str
) -> None:
    detail = problem(classify(asking, promise=asked), 422, "unknown-promise")
    assert re.search(says, detail), detail


def test_a_bundle_without_promises_names_the_command_that_makes_them(
    client: httpx.Client,
) -> None:
    detail = problem(classify(client, promise="99%"), 422, "unknown-promise")
    assert "offramp certify" in detail


def test_a_budget_bounds_the_flops_of_the_promise(asking: httpx.Client, manifest: Manifest) -> None:
    for budget in ("full", "100%", "safe"):
        assert classify(asking, promise="99%", budget=budget).status_code == 200
    for budget in ("low", "30%"):
        detail = problem(classify(asking, promise="99%", budget=budget), 422, "budget-too-low")
        flops = math.ceil(offered(manifest)["99%"].mean_flops.value)
        assert f"promise=99% takes {flops} flops" in detail
    problem(classify(asking, promise="99%", budget="cheap"), 422, "unknown-budget")


def test_a_promise_and_a_confidence_exclude_each_other(asking: httpx.Client) -> None:
    response = classify(asking, promise="99%", min_confidence="0.5")
    assert "promise and min_confidence exclude" in problem(response, 422, "invalid-parameter")


def test_the_names_of_promises_are_listed_with_the_budgets(asking: httpx.Client) -> None:
    detail = problem(classify(asking, budget="cheap"), 422, "unknown-budget")
    assert "low, medium, high, full, safe" in detail


def test_a_deadline_that_ends_a_request_early_voids_its_promise(
    promise_bundle: Path, manifest: Manifest
) -> None:
    gated = GatedRuntime(promise_bundle, manifest)
    with serving(promise_bundle) as server, server.client as client:
        server.gate(gated)
        exits = [answer["exit"] for answer in classify(client, promise="99%").json()["answers"]]
        image = IMAGES[exits.index(max(exits))].tobytes()
        url = "/classify?promise=99%&deadline_ms="
        (kept,) = client.post(f"{url}30000", content=image, headers=PIXELS).json()["answers"]
        gated.shut(1)
        (late,) = client.post(f"{url}300", content=image, headers=PIXELS).json()["answers"]
        gated.open()
    assert (kept["deadline_hit"], kept["promise"]["kept"]) == (False, True)
    assert (late["deadline_hit"], late["promise"]["kept"]) == (True, False)


def test_metrics_count_by_promise(promise_bundle: Path, manifest: Manifest) -> None:
    with serving(promise_bundle) as server, server.client as client:
        answers = [
            *classify(client, promise="99%").json()["answers"],
            *classify(client, budget="safe").json()["answers"],
        ]
        classify(client, promise="harm:2%")
        samples = counters(client)
    name = "offramp_requests_total"
    assert total(samples, name, budget="promise-99", outcome="answered") == len(answers)
    assert total(samples, name, budget="promise-harm-2") == len(IMAGES)
    assert total(samples, name, budget="promise-95") == 0
    flops = sum(answer["flops"] for answer in answers)
    assert total(samples, "offramp_flops_spent_total", budget="promise-99") == flops
    expected = [share.value for share in offered(manifest)["99%"].exit_shares]
    stated = [
        total(samples, "offramp_exit_share_expected", budget="promise-99", exit=str(k))
        for k in range(1, 5)
    ]
    assert stated == pytest.approx(expected)


def test_the_model_lists_its_promises(asking: httpx.Client, client: httpx.Client) -> None:
    record = asking.get("/model").json()["promises"]
    assert [each["epsilon"] for each in record["offered"]] == [0.01, 0.05, 0.02]
    assert (record["certified"], record["delta"], record["at_once"]) == (4000, 0.05, 3)
    assert "promises" not in client.get("/model").json()


def test_a_server_does_not_start_with_a_promise_that_its_figures_do_not_support(
    promise_bundle: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(promise_bundle, tmp_path / "boasting")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["promises"]["offered"][0]["losses"] = 39
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with (
        pytest.raises(BundleError, match="99%: 39 losses in 4,000 images do not support it"),
        serving(folder),
    ):
        pass


def test_the_document_has_the_parameter_only_where_something_is_promised(
    client: httpx.Client, asking: httpx.Client
) -> None:
    for each, can in ((client, False), (asking, True)):
        for path in ("/classify", "/classify/pixels"):
            operation = each.get("/openapi.json").json()["paths"][path]["post"]
            assert ("promise" in [one["name"] for one in operation["parameters"]]) == can


def test_without_audits_there_are_no_such_metrics(client: httpx.Client) -> None:
    names = counters(client)
    assert not [name for name in names if "audit" in name or "offramp_promise" in name]
