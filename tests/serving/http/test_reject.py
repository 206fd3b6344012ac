"""`reject=true`: the answer says whether the picture shows no class of the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from offramp.bundle.manifest import Manifest, read_manifest
from tests.serving.answers import counters, problem, total
from tests.serving.reject_bundle import scores_of
from tests.serving.servers import Running, serving
from tests.serving.small_bundle import random_images

PIXELS = {"content-type": "application/vnd.offramp.uint8"}
IMAGES = random_images(16, 3)


@pytest.fixture(scope="module", params=["native", "portable", "device"])
def rejecting(reject_bundle: Path, request: pytest.FixtureRequest) -> Iterator[Running]:
    layout = "portable" if request.param == "portable" else "native"
    on_device = request.param == "device"
    with serving(reject_bundle, layout=layout, on_device=on_device) as running:
        yield running


def classify(client: httpx.Client, query: str) -> httpx.Response:
    return client.post(f"/classify?{query}", content=IMAGES.tobytes(), headers=PIXELS)


@pytest.mark.parametrize("query", ["budget=low", "budget=full", "min_confidence=0.6&explain=true"])
def test_an_answer_is_rejected_if_the_score_of_its_exit_is_below_the_threshold(
    rejecting: Running, reject_bundle: Path, query: str
) -> None:
    record = read_manifest(reject_bundle).reject
    assert record is not None
    below = scores_of(reject_bundle, IMAGES) < np.array(record.thresholds)[:, None]
    with rejecting.client as client:
        asked = classify(client, f"{query}&reject=true").json()["answers"]
        plain = classify(client, query).json()["answers"]
    exits = [answer["exit"] for answer in asked]
    assert [answer["reject"] for answer in asked] == [
        below[exit_ - 1, row] for row, exit_ in enumerate(exits)
    ]
    assert {answer["reject"] for answer in asked} == {True, False}
    assert [answer["exit"] for answer in plain] == exits
    assert not any("reject" in answer for answer in plain)


def test_one_image_and_many_are_rejected_alike(rejecting: Running) -> None:
    with rejecting.client as client:
        many = classify(client, "reject=true").json()["answers"]
        for image, answer in zip(IMAGES, many, strict=True):
            one = client.post("/classify?reject=true", content=image.tobytes(), headers=PIXELS)
            assert one.json()["answers"][0]["reject"] == answer["reject"]


def test_only_answers_to_requests_that_ask_are_counted(reject_bundle: Path) -> None:
    with serving(reject_bundle) as running, running.client as client:
        classify(client, "budget=low")
        answers = classify(client, "budget=low&reject=true").json()["answers"]
        samples = counters(client)
    name = "offramp_reject_answers_total"
    rejected = sum(answer["reject"] for answer in answers)
    assert total(samples, name, budget="low", reject="true") == rejected
    assert total(samples, name, budget="low", reject="false") == len(IMAGES) - rejected
    assert total(samples, name) == len(IMAGES)


def test_without_a_score_in_the_graphs_the_confidence_decides(
    bundle: Path, reject_bundle: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(bundle, tmp_path / "confidence")
    path, thresholds = folder / "manifest.json", (0.5, 0.6, 0.7, 0.8)
    record = json.loads((reject_bundle / "manifest.json").read_text())["reject"]
    for each, threshold in zip(record["exits"], thresholds, strict=True):
        each["threshold"] = threshold
    record["score"] = "confidence"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reject": record}))
    with serving(folder) as running, running.client as client:
        for budget in ("low", "full"):
            answers = classify(client, f"budget={budget}&reject=true").json()["answers"]
            assert [answer["reject"] for answer in answers] == [
                answer["confidence"] < thresholds[answer["exit"] - 1] for answer in answers
            ]
            assert {answer["reject"] for answer in answers} == {True, False}


def test_the_model_shows_its_record(rejecting: Running, reject_bundle: Path) -> None:
    record = read_manifest(reject_bundle).reject
    assert record is not None
    with rejecting.client as client:
        assert client.get("/model").json()["reject"] == record.model_dump(mode="json")


def test_a_bundle_without_a_record_names_the_remedy(
    client: httpx.Client, manifest: Manifest
) -> None:
    response = classify(client, "reject=true")
    assert "--reject" in problem(response, 422, "invalid-parameter")
    assert classify(client, "reject=false").status_code == 200
    assert manifest.reject is None
    assert "reject" not in client.get("/model").json()
    assert "offramp_reject_answers_total" not in counters(client)


def test_the_document_says_whether_answers_can_be_rejected(
    client: httpx.Client, rejecting: Running
) -> None:
    with rejecting.client as other:
        for each, can in ((client, False), (other, True)):
            operation = each.get("/openapi.json").json()["paths"]["/classify"]["post"]
            (parameter,) = [one for one in operation["parameters"] if one["name"] == "reject"]
            assert ("const" not in parameter["schema"]) == can
